"""A training that was stopped, however it was stopped, ends with the bytes of one that was not."""

import signal
from pathlib import Path
from typing import Any

import pytest
import tiny_training
import torch
from forked import Forked, die
from tiny_training import EPOCHS, STEPS, at, equal_weights, make_training, resumed, without_timings
from torch import Tensor

from msclnet.training import checkpoint
from msclnet.training.checkpoint import CheckpointFolder
from msclnet.training.loop import Training


class StoppedError(Exception):
    """Stands for whatever ends a process in an orderly way."""


def stop() -> None:
    raise StoppedError


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Training]:
    torch.set_num_threads(1)
    training = make_training(tmp_path_factory.mktemp("whole"))
    return training.run(), training


def check_same(weights: dict[str, Tensor], training: Training, uninterrupted: tuple[Any, Training]) -> None:
    expected, whole = uninterrupted
    assert equal_weights(weights, expected)
    assert without_timings(training.progress.history) == without_timings(whole.progress.history)
    assert training.progress.best_score == whole.progress.best_score
    assert training.progress.best_epoch == whole.progress.best_epoch
    ours, theirs = training.optimizer.state_dict()["state"], whole.optimizer.state_dict()["state"]
    assert all(torch.equal(ours[i]["momentum_buffer"], theirs[i]["momentum_buffer"]) for i in theirs)


def test_the_same_start_gives_the_same_end(tmp_path: Path, uninterrupted: Any) -> None:
    training = make_training(tmp_path)
    check_same(training.run(), training, uninterrupted)
    start = make_training(tmp_path / "other").network.state_dict()
    assert not equal_weights(start, uninterrupted[0]), "nothing was trained"


def test_stopped_after_every_epoch(tmp_path: Path, uninterrupted: Any) -> None:
    for epoch in range(1, EPOCHS + 1):
        with pytest.raises(StoppedError):
            resumed(tmp_path, report=at(epoch, stop)).run()
    training = resumed(tmp_path)
    assert training.progress.epoch == EPOCHS
    check_same(training.run(), training, uninterrupted)


class DyingLoader:
    """Batches until one step, whose batch never comes."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, first: int, last: int) -> Any:
        for step, batch in enumerate(tiny_training.load(first, last), start=first):
            if step == self.step:
                die()
            yield batch


def die_at_write(number: int) -> None:
    """Die when the n-th checkpoint is half written."""
    count = 0

    def fsync(_: int) -> None:
        nonlocal count
        count += 1
        if count == number:
            die()

    checkpoint.os.fsync = fsync


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("first epoch", 0),
        ("mid-epoch", 2),
        ("first checkpoint", 0),
        ("mid-checkpoint", 1),
        ("last checkpoint", EPOCHS - 1),
        ("between epochs", 2),
        ("after the last epoch", EPOCHS),
    ],
)
def test_killed(tmp_path: Path, uninterrupted: Any, moment: str, left: int) -> None:
    def work(_: Forked) -> None:
        changes: dict[str, Any] = {}
        if moment == "first epoch":
            changes["loader"] = DyingLoader(1)
        elif moment == "mid-epoch":
            changes["loader"] = DyingLoader(2 * STEPS + 1)
        elif "checkpoint" in moment:
            die_at_write({"first checkpoint": 1, "mid-checkpoint": 2, "last checkpoint": EPOCHS}[moment])
        else:
            changes["report"] = at(2 if moment == "between epochs" else EPOCHS, die)
        make_training(tmp_path, **changes).run()

    assert Forked(work).wait() == -signal.SIGKILL
    training = resumed(tmp_path)
    assert training.progress.epoch == left
    check_same(training.run(), training, uninterrupted)


def test_a_damaged_checkpoint_costs_one_epoch_and_no_bit(tmp_path: Path, uninterrupted: Any) -> None:
    with pytest.raises(StoppedError):
        make_training(tmp_path, report=at(3, stop)).run()
    newest = max(tmp_path.glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1])
    training = resumed(tmp_path)
    assert training.progress.epoch == 2
    check_same(training.run(), training, uninterrupted)


def test_the_best_weights_outlive_a_stop(tmp_path: Path) -> None:
    scores = {2: 0.9, 4: 0.1}

    def run(folder: Path, **changes: Any) -> dict[str, Tensor]:
        training = resumed(folder, keep="best", **changes)
        training.validate = lambda _: {"score": scores[training.progress.epoch + 1]}
        return training.run()

    whole = run(tmp_path / "whole")
    with pytest.raises(StoppedError):
        run(tmp_path / "stopped", report=at(3, stop))
    assert equal_weights(run(tmp_path / "stopped"), whole)


def test_plain_values_travel_with_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        make_training(tmp_path, report=at(1, stop), extra={"key": "k", "run": {"id": "r", "n": None}}).run()
    found = CheckpointFolder(tmp_path).load_latest()
    assert found is not None
    assert found[1]["extra"] == {"key": "k", "run": {"id": "r", "n": None}}
