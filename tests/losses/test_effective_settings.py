"""`pipelines.experiments.equivalence` calls rows identical: they are trained, and the weights compared."""

from pathlib import Path

import pytest
import torch
from synthetic_settings import pair_batch, settings, small_network

from msclnet.losses.objective import Objective
from pipelines.experiments.equivalence import effective, same_setting
from pipelines.experiments.grid import load_grid
from pipelines.stages.config import flatten

ROOT = Path(__file__).parents[2]


def trained(values: dict) -> dict[str, torch.Tensor]:
    """What is tested after two steps of SGD, one for the teacher, one for the taught; not what only the branch sees."""
    network, objective = small_network(values), Objective(values["loss"], values["synergy"])
    optimizer = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad], lr=0.05, momentum=0.9, nesterov=True
    )
    for step in range(2):
        visible, infrared, labels = pair_batch(step)
        loss = objective(network(visible, infrared, with_synergy=objective.needs_synergy), labels).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    untested = ("synergy.", "normalise_")
    return {name: value for name, value in network.state_dict().items() if not name.startswith(untested)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"synergy.target": "label"},
        {"loss.routing": "joint"},
        {"loss.divergence.reach": "affine"},
        {"loss.divergence.reach": "affine", "synergy.teacher": "parts_mean"},
    ],
    ids=lambda changes: " ".join(f"{key}={value}" for key, value in changes.items()) or "default",
)
def test_rows_of_table_1_are_equal_bit_for_bit_exactly_where_it_says_so(changes: dict) -> None:
    grid = load_grid(ROOT, "ablation")
    weights, texts = [], []
    for row in grid.all_rows:
        given = {**flatten(grid.overrides), **flatten(row.overrides), **changes}
        of_losses = {
            key: value for key, value in given.items() if not key.startswith(("augment.", "train.", "embed."))
        }
        values = settings(**{key.replace(".", "__"): value for key, value in of_losses.items()})
        weights.append(trained(values))
        texts.append(effective({**flatten(values), "seed": 0}))
    names = [row.name for row in grid.all_rows]
    for i, first in enumerate(names):
        for j, second in enumerate(names[:i]):
            equal = all(torch.equal(weights[i][name], weights[j][name]) for name in weights[i])
            assert equal == (texts[i] == texts[j]), f"{first} and {second}"


def test_what_changes_no_figure_does_not_count_and_everything_unknown_does() -> None:
    params = {"seed": 0, "tracking.experiment": "a", "visualize.seed": 0, "train.epochs": 3}
    assert effective(params) == effective(
        {**params, "seed": 1, "tracking.experiment": "b", "visualize.seed": 2}
    )
    assert effective(params) != effective({**params, "train.epochs": 4})
    assert effective(params) != effective({**params, "another.key": 1})


def test_a_record_is_of_the_present_setting_as_far_as_parameters_have_an_effect() -> None:
    present = flatten({**settings(loss__divergence__on=False), "train": {"epochs": 3}})
    without = {key: value for key, value in present.items() if key != "train.epochs"}
    assert same_setting(present, present)
    assert same_setting({**present, "loss.divergence.reach": "affine"}, present)  # L_div is off
    assert same_setting(without, present)  # it is from before this parameter
    assert not same_setting(present, without)  # no longer known, and what it did is
    assert not same_setting({**present, "train.epochs": 4}, present)
    auto = {**present, "train.precision": "auto"}  # leaves it to the machine
    assert same_setting({**auto, "train.precision": "bf16"}, auto)
    assert not same_setting({**auto, "train.precision": "bf16"}, {**auto, "train.precision": "fp32"})
    on = {**present, "loss.divergence.on": True}
    assert not same_setting({**on, "loss.divergence.reach": "affine"}, on)
    assert not same_setting(on, present)
