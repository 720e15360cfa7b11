"""Read literally (routing `paper`, labels as targets), the synergistic branch never reaches the extractors.

The rows are those of the paper's ablation table; equality is bit for bit, so that a report may say of two rows
"identical by construction" instead of training both.
"""

from functools import cache

import pytest
import torch
from synthetic_settings import pair_batch, settings, small_network

from msclnet.losses.objective import Objective

BASELINE = ("identity", "triplet")
MS = ("divergence", "target")
CA = ("sub", "intra", "inter")
ROWS = {
    1: BASELINE,
    4: (*BASELINE, "local"),
    5: (*BASELINE, "global"),
    9: (*BASELINE, *MS),
    10: (*BASELINE, "local", "global"),
    11: (*BASELINE, *CA),
    12: (*BASELINE, *MS, "local", "global"),
    13: (*BASELINE, *MS, *CA),
    14: (*BASELINE, "local", "global", *CA),
    15: (*BASELINE, *MS, "local", "global", *CA),
}
EQUAL = [(4, 1), (5, 1), (10, 1), (12, 9), (14, 11), (15, 13)]


@cache
def trained(row: int, *, routing: str, inputs: str, **changes) -> dict[str, torch.Tensor]:
    """Everything outside the synergistic branch after two steps of SGD: one for the teacher, one for the taught."""
    values = settings(
        on=ROWS[row], loss__routing=routing, synergy__inputs=inputs, **{"synergy__target": "label", **changes}
    )
    objective = Objective(values["loss"], values["synergy"])
    if not objective.needs_synergy:
        values["synergy"]["teacher"] = "mutual"  # the branch does not even exist
    network = small_network(values)
    assert (network.synergy is not None) is objective.needs_synergy
    optimizer = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad], lr=0.05, momentum=0.9, nesterov=True
    )
    for step in range(2):
        visible, infrared, labels = pair_batch(step)
        loss = objective(network(visible, infrared, with_synergy=objective.needs_synergy), labels).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {
        name: value.clone() for name, value in network.state_dict().items() if not name.startswith("synergy.")
    }


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("inputs", ["detached", "joint"])
@pytest.mark.parametrize(("row", "same"), EQUAL)
def test_rows_that_are_equal_bit_for_bit_under_routing_paper(row, same, inputs):
    assert equal(trained(row, routing="paper", inputs=inputs), trained(same, routing="paper", inputs=inputs))


@pytest.mark.parametrize(("row", "other"), EQUAL)
def test_the_same_rows_differ_under_routing_joint(row, other):
    rows = [trained(r, routing="joint", inputs="detached") for r in (row, other)]
    assert not equal(*rows)


@pytest.mark.parametrize(("row", "other"), [(9, 1), (11, 1), (13, 9), (13, 11)])
def test_rows_with_another_extractor_loss_differ_under_routing_paper_too(row, other):
    rows = [trained(r, routing="paper", inputs="detached") for r in (row, other)]
    assert not equal(*rows)


@pytest.mark.parametrize(("row", "same"), [(4, 1), (12, 9), (15, 13)])
def test_the_identity_loss_of_the_synergistic_feature_changes_nothing_where_its_inputs_are_detached(
    row, same, monkeypatch
):
    expected = trained(same, routing="paper", inputs="detached")
    monkeypatch.setitem(ROWS, -row, (*ROWS[row], "synergy_identity"))
    assert equal(trained(-row, routing="paper", inputs="detached"), expected)
    assert not equal(trained(-row, routing="paper", inputs="joint"), expected)


def test_a_cascade_on_the_synergistic_feature_breaks_the_equality():
    changes = {"loss__cascade__synergistic": True}
    with_feature = trained(11, routing="paper", inputs="detached", **changes)
    assert not equal(with_feature, trained(11, routing="paper", inputs="detached"))


def test_as_a_teacher_the_branch_does_reach_the_extractors():
    # the synergy reading: L_com changes the teacher and with it the students, although its gradient ends there
    changes = {"synergy__target": "synergy"}
    rows = [trained(row, routing="paper", inputs="detached", **changes) for row in (12, 9)]
    assert not equal(*rows)


def test_the_same_row_twice_is_the_same():
    first = trained(15, routing="joint", inputs="detached")
    trained.cache_clear()
    assert equal(first, trained(15, routing="joint", inputs="detached"))
