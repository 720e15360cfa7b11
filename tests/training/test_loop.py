"""The loop's bookkeeping: what is averaged, measured, kept and refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import EPOCHS, STEPS, TIMINGS, equal_weights, load, make_training
from torch import Tensor

from msclnet.features import PairLabels
from msclnet.losses.objective import Terms, share_of_singletons, subclass_numbers
from msclnet.training.checkpoint import CheckpointFolder
from msclnet.training.loop import DivergedError, weights_of
from msclnet.training.step import gradient_sizes


class Spy:
    """Passes an objective's losses on, writes them down, and may add a constant to a term at one step.

    A constant leaves all gradients alone: only the losses tell of it.
    """

    def __init__(self, training: Any, *, spoil: tuple[int, str, float] | None = None) -> None:
        self.inner = training.objective
        self.optimizer = training.optimizer
        self.spoil = spoil
        self.weights = self.inner.weights
        self.needs_synergy = self.inner.needs_synergy
        self.seen: list[dict[str, float]] = []
        self.rates: list[float] = []
        self.norms: list[float] = []
        self.singletons: list[float] = []
        training.objective = self

    def share_of_singletons(self, labels: Any) -> float:
        return self.inner.share_of_singletons(labels)

    def __call__(self, features: Any, labels: Any) -> Terms:
        terms = self.inner(features, labels)
        values, total = dict(terms.values), terms.total
        if self.spoil and self.spoil[0] == len(self.seen):
            values[self.spoil[1]] = values[self.spoil[1]] + self.spoil[2]
            total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        self.seen.append({**{name: value.item() for name, value in values.items()}, "total": total.item()})
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        pooled = torch.cat([features.visible.pooled, features.infrared.pooled]).detach().double()
        self.norms.append(pooled.square().sum(1).sqrt().mean().item())
        self.singletons.append(share_of_singletons(subclass_numbers(labels, kinds=2, by_camera=True)))
        return Terms(values=values, total=total)


def test_history_rows(tmp_path: Path) -> None:
    reported: list[tuple[int, dict[str, float]]] = []
    training = make_training(tmp_path, report=lambda row, epoch: reported.append((epoch, dict(row))))
    spy = Spy(training)
    training.run()
    history = training.progress.history
    assert reported == list(enumerate(history, start=1))
    assert [row["epoch"] for row in history] == list(range(1, EPOCHS + 1))
    assert len(spy.seen) == EPOCHS * STEPS
    for epoch, row in enumerate(history):
        steps = slice(epoch * STEPS, (epoch + 1) * STEPS)
        for name in (*spy.weights, "total"):
            mean = np.mean([step[name] for step in spy.seen[steps]])
            assert row["total" if name == "total" else f"loss_{name}"] == pytest.approx(mean, rel=1e-5)
        assert row["feature_norm"] == pytest.approx(np.mean(spy.norms[steps]), rel=1e-5)
        assert row["learning_rate"] == spy.rates[steps][-1]
        assert row["images_per_second"] > 0
        assert 0 <= row["share_waiting_for_input"] <= 1


def test_columns_are_where_they_belong(tmp_path: Path) -> None:
    training = make_training(tmp_path, validate_every=3, gradients_every=2)
    spy = Spy(training)
    training.run()
    always = {"epoch", "total", "feature_norm", "learning_rate", *TIMINGS} | {
        f"loss_{n}" for n in spy.weights
    }
    validated = {"val_score", "val_spread"}
    measured = {f"gradient_{name}" for name in spy.weights} | {"share_of_singletons"}
    for epoch, row in enumerate(training.progress.history, start=1):
        expected = (
            always | (validated if epoch in (3, 4) else set()) | (measured if epoch in (1, 2, 4) else set())
        )
        assert set(row) == expected, epoch
        if epoch in (1, 2, 4):
            assert row["share_of_singletons"] == spy.singletons[epoch * STEPS - 1]


@pytest.mark.parametrize(("every", "epochs"), [(1, {1, 2, 3, 4}), (2, {2, 4}), (3, {3, 4}), (99, {4})])
def test_validated_epochs(tmp_path: Path, every: int, epochs: set[int]) -> None:
    calls: list[bool] = []
    training = make_training(
        tmp_path,
        validate_every=every,
        steps_per_epoch=1,
        gradients_every=0,
        validate=lambda network: calls.append(network.training) or {"score": 0.5},
    )
    training.run()
    assert {row["epoch"] for row in training.progress.history if "val_score" in row} == epochs
    assert len(calls) == len(epochs)
    assert not [name for row in training.progress.history for name in row if name.startswith("gradient_")]


def test_every_epoch_trains_in_training_mode(tmp_path: Path) -> None:
    """Even where the network comes, or a validation leaves it, in the mode for testing."""

    def validate(network: Any) -> dict[str, float]:
        network.eval()
        return {"score": 0.5}

    training = make_training(tmp_path, validate_every=1, steps_per_epoch=1, validate=validate)
    training.network.eval()
    modes: list[bool] = []
    training.network.register_forward_pre_hook(lambda network, _: modes.append(network.training))
    training.run()
    assert modes == [True] * EPOCHS


def test_rates_follow_the_schedule(tmp_path: Path) -> None:
    training = make_training(tmp_path)
    spy = Spy(training)
    training.run()
    warm_up = [0.05 / 3, 0.1 / 3, 0.05]
    assert spy.rates == pytest.approx(warm_up + [0.05] * STEPS + [0.01] * (2 * STEPS))


def test_batches_are_asked_for_once(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    def loader(first: int, last: int) -> Any:
        calls.append((first, last))
        return load(first, last)

    make_training(tmp_path, loader=loader).run()
    assert calls == [(0, EPOCHS * STEPS)]


def test_gradient_columns_by_autograd(tmp_path: Path) -> None:
    """Taken again, from the weights and the batch of that very step."""
    training = make_training(tmp_path, epochs=1, steps_per_epoch=1, gradients_every=1)
    training.run()
    row = training.progress.history[0]
    again = make_training(tmp_path / "again")
    batch = next(iter(load(0, 1)))
    again.network.train()
    features = again.network(batch.visible, batch.infrared)
    labels = PairLabels(batch.labels, batch.cameras_visible, batch.cameras_infrared)
    values = again.objective(features, labels).values
    for name, value in values.items():
        (gradient,) = torch.autograd.grad(value, features.maps, retain_graph=True, allow_unused=True)
        size = 0.0 if gradient is None else gradient.flatten().norm().item()
        assert row[f"gradient_{name}"] == pytest.approx(again.objective.weights[name] * size, rel=1e-4)
    assert row["gradient_identity"] > 0


def test_gradient_sizes_in_closed_form() -> None:
    maps = torch.tensor([[3.0, 4.0], [0.0, 12.0]], requires_grad=True)  # of norm 13
    other = torch.ones(2, requires_grad=True)
    values = {
        "square": maps.square().sum(),  # gradient 2 x
        "linear": (maps * torch.tensor([[1.0, 2.0], [2.0, 4.0]])).sum(),  # gradient of norm 5
        "elsewhere": other.sum(),
        "constant": torch.tensor(1.0),
        "detached": maps.detach().sum(),
    }
    weights = dict.fromkeys(values, 1.0) | {"square": 0.5, "linear": 3.0}
    assert gradient_sizes(values, weights, maps) == pytest.approx(
        {
            "gradient_square": 13.0,
            "gradient_linear": 15.0,
            "gradient_elsewhere": 0.0,
            "gradient_constant": 0.0,
            "gradient_detached": 0.0,
        }
    )
    assert maps.grad is None
    values["square"].backward()  # the graph is still there


def test_measuring_gradients_changes_no_weight(tmp_path: Path) -> None:
    measured = make_training(tmp_path / "a", gradients_every=1).run()
    unmeasured = make_training(tmp_path / "b", gradients_every=0).run()
    assert equal_weights(measured, unmeasured)


@pytest.mark.parametrize(
    ("keep", "scores", "kept"),
    [
        ("last", [0.9, 0.1, 0.5, 0.2], 4),
        ("best", [0.1, 0.9, 0.5, 0.2], 2),
        ("best", [0.1, 0.2, 0.3, 0.4], 4),
        ("best", [0.3, 0.3, 0.3, 0.3], 1),
        ("best", [-2.0, -1.0, -3.0, -4.0], 2),
    ],
)
def test_which_weights_are_kept(tmp_path: Path, keep: str, scores: list[float], kept: int) -> None:
    snapshots: list[dict[str, Tensor]] = []

    def validate(network: Any) -> dict[str, float]:
        snapshots.append(weights_of(network))
        return {"score": scores[len(snapshots) - 1]}

    training = make_training(tmp_path, keep=keep, validate_every=1, steps_per_epoch=1, validate=validate)
    weights = training.run()
    assert equal_weights(weights, snapshots[kept - 1])
    assert not equal_weights(weights, snapshots[kept % EPOCHS])
    assert training.progress.best_score == max(scores)
    assert training.progress.best_epoch == 1 + scores.index(max(scores))


def test_scores_that_are_no_numbers_still_leave_weights(tmp_path: Path) -> None:
    training = make_training(tmp_path, keep="best", steps_per_epoch=1, validate=lambda _: {"score": math.nan})
    assert set(training.run()) == set(training.network.state_dict())


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    training = make_training(tmp_path)
    Spy(training, spoil=(2 * STEPS - 1, "intra", math.nan))
    with pytest.raises(DivergedError, match=r"epoch 2, step 3: .*loss_intra = nan") as caught:
        training.run()
    assert "loss_identity" not in str(caught.value), "only the term that went wrong is named"
    assert [values["step"] for values in caught.value.steps] == list(range(1, 2 * STEPS + 1))
    first = [values["total"] for values in caught.value.steps[:STEPS]]
    mean = training.progress.history[0]["total"]
    assert sum(first) / STEPS == pytest.approx(mean, rel=1e-6), "the steps of the first epoch as they were"
    assert not math.isfinite(caught.value.steps[-1]["total"])
    found = CheckpointFolder(tmp_path).load_latest()
    assert found is not None
    assert found["progress"]["epoch"] == 1, "the spoilt state must not be saved"


def test_a_loss_that_is_not_finite_for_one_step_alone_is_noticed(tmp_path: Path) -> None:
    """Between two looks at the losses; the epoch's means tell of it."""
    training = make_training(tmp_path)
    Spy(training, spoil=(STEPS, "intra", math.inf))
    with pytest.raises(DivergedError, match=r"epoch 2, step 3: .*loss_intra = inf"):
        training.run()
    found = CheckpointFolder(tmp_path).load_latest()
    assert found is not None
    assert found["progress"]["epoch"] == 1


def test_a_feature_that_runs_away_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"epoch 1, step 3: .*train\.norm_limit = 0\.001"):
        make_training(tmp_path, norm_limit=0.001).run()
    assert CheckpointFolder(tmp_path).load_latest() is None


def test_low_precision_trains_too(tmp_path: Path) -> None:
    training = make_training(tmp_path, precision="bf16", epochs=1)
    weights = training.run()
    assert all(value.dtype in (torch.float32, torch.int64) for value in weights.values())
    assert all(value.isfinite().all() for value in weights.values())
    assert not equal_weights(weights, make_training(tmp_path / "fp32", epochs=1).run())


@pytest.mark.parametrize("decay", [0.3, 0.98])
def test_what_is_kept_is_the_moving_average(tmp_path: Path, decay: float) -> None:
    """Weights and running statistics after each step, averaged by hand; the first steps weigh less and less."""
    validated: list[dict[str, Tensor]] = []

    def validate(network: Any) -> dict[str, float]:
        validated.append(weights_of(network))
        return {"score": 0.0}

    training = make_training(tmp_path, weight_average=decay, validate_every=1, validate=validate)
    mean: dict[str, Tensor] = {}
    decays: list[float] = []
    epochs: list[dict[str, Tensor]] = []

    def after_step() -> None:
        done = training.steps_done - 1
        decays.append(min(decay, (1 + done) / (10 + done)) if done else 0.0)
        for name, value in weights_of(training.network).items():
            mean[name] = decays[-1] * mean.get(name, 0.0) + (1 - decays[-1]) * value.double()
        if training.steps_done % STEPS == 0:
            epochs.append({name: value.clone() for name, value in mean.items()})

    training.after_step = after_step
    kept = training.run()
    assert len(epochs) == EPOCHS
    assert (decay in decays) == (decay < 0.5), "with one decay the warm-up ends, with the other it does not"
    for found, expected in zip([*validated, kept], [*epochs, epochs[-1]], strict=True):
        for name, value in found.items():
            if value.is_floating_point():
                torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6, msg=name)
    assert not equal_weights(kept, weights_of(training.network))


def test_without_an_average_the_weights_themselves_are_kept(tmp_path: Path) -> None:
    training = make_training(tmp_path, weight_average=0.0)
    assert equal_weights(training.run(), weights_of(training.network))


def test_an_average_changes_no_step(tmp_path: Path) -> None:
    plain, averaged = (make_training(tmp_path / str(decay), weight_average=decay) for decay in (0.0, 0.9))
    plain.run()
    averaged.run()
    assert equal_weights(weights_of(plain.network), weights_of(averaged.network))


def test_kept_weights_are_copies(tmp_path: Path) -> None:
    training = make_training(tmp_path, epochs=1)
    weights = training.run()
    before = {name: value.clone() for name, value in weights.items()}
    with torch.no_grad():
        for value in training.network.parameters():
            value += 1
    assert equal_weights(weights, before)
