"""A training that was stopped, however it was stopped, ends with the bytes of one that was not."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_training
import torch
from forked import Forked, die
from tiny_training import EPOCHS, STEPS, at, equal_weights, make_training, resumed, without_timings
from torch import Tensor

from msclnet.errors import UserError
from msclnet.images.batches import step_loader
from msclnet.training import checkpoint
from msclnet.training.loop import Training
from msclnet.worker_processes import loader_errors_explained


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
        ("last checkpoint", EPOCHS - 1),
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
            die_at_write(1 if moment == "first checkpoint" else EPOCHS)
        else:
            changes["report"] = at(EPOCHS, die)
        make_training(tmp_path, **changes).run()

    assert Forked(work).wait() == -signal.SIGKILL
    training = resumed(tmp_path)
    assert training.progress.epoch == left
    check_same(training.run(), training, uninterrupted)


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], flipped, lambda _: b""], ids=["torn", "bit", "empty"]
)
def test_a_damaged_checkpoint_costs_one_epoch_and_no_bit(
    tmp_path: Path, uninterrupted: Any, damage: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(StoppedError):
        make_training(tmp_path, report=at(3, stop)).run()
    newest = max(tmp_path.glob("*.pt"))
    newest.write_bytes(damage(newest.read_bytes()))
    training = resumed(tmp_path)
    assert training.progress.epoch == 2
    check_same(training.run(), training, uninterrupted)


@pytest.mark.parametrize("epoch", [1, EPOCHS])
def test_a_full_disk_costs_one_epoch_and_no_bit(
    tmp_path: Path, uninterrupted: Any, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    """The disk is full when an epoch's checkpoint is written; later there is space again."""
    writes: list[int] = []

    def fsync(file: int) -> None:
        writes.append(file)
        if len(writes) == epoch:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    with pytest.raises(UserError, match=rf"epoch-0000{epoch}\.pt could not be written \(No space"):
        make_training(tmp_path).run()
    monkeypatch.undo()
    training = resumed(tmp_path)
    assert training.progress.epoch == epoch - 1
    check_same(training.run(), training, uninterrupted)


class DyingWorker:
    """Training batches, made by a process that is killed at one step, as the kernel does when memory runs out."""

    def __init__(self, batches: Any, step: int) -> None:
        self.batches = batches
        self.step = step

    def __getitem__(self, step: int) -> Any:
        if step == self.step:
            die()
        return self.batches[step]


def test_a_dead_worker_of_the_loader_costs_the_epoch_and_no_bit(tmp_path: Path, uninterrupted: Any) -> None:
    def load(first: int, last: int) -> Any:
        batches: Any = DyingWorker(tiny_training.load(first, last).dataset, 2 * STEPS + 1)
        return step_loader(batches, first=first, last=last, workers=1, pinned=False)

    with (
        pytest.raises(UserError, match=r"a process that prepares batches failed .*MSCLNET_WORKERS"),
        loader_errors_explained(),
    ):
        make_training(tmp_path, loader=load).run()
    training = resumed(tmp_path)
    assert training.progress.epoch <= 2, "the worker dies while it prepares batches ahead"
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
