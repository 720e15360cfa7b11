"""SIGTERM and Ctrl-C at every moment of a training: the state is saved, and the end is that of an undisturbed run."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_training
import torch
from tiny_training import EPOCHS, STEPS, at, equal_weights, make_training, resumed, without_timings
from torch import Tensor

from msclnet.distributed import Processes
from msclnet.training import checkpoint
from msclnet.training.checkpoint import CheckpointFolder
from msclnet.training.loop import Training
from msclnet.training.stopping import Stopping

SETTINGS: dict[str, Any] = {"gradients_every": 2}  # measured in an epoch whose validation is stopped


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """A test run in the background ignores SIGINT."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Training]:
    torch.set_num_threads(1)
    training = make_training(tmp_path_factory.mktemp("whole"), **SETTINGS)
    return training.run(), training


def check_same(weights: dict[str, Tensor], training: Training, whole: tuple[Any, Training]) -> None:
    expected, undisturbed = whole
    assert equal_weights(weights, expected)
    assert without_timings(training.progress.history) == without_timings(undisturbed.progress.history)
    assert training.progress.best_score == undisturbed.progress.best_score
    ours, theirs = training.optimizer.state_dict()["state"], undisturbed.optimizer.state_dict()["state"]
    assert all(torch.equal(ours[i]["momentum_buffer"], theirs[i]["momentum_buffer"]) for i in theirs)


def send(number: int = signal.SIGTERM) -> None:
    # os.kill may deliver it to another thread, and Python's handler would then run some steps later.
    signal.raise_signal(number)


def in_step(training: Training, step: int, act: Callable[[], None] = send) -> None:
    """Act in the middle of a step, between the losses and the change of the weights."""
    inner, count = training.objective, 0

    class Objective:
        weights, needs_synergy = inner.weights, inner.needs_synergy
        share_of_singletons = staticmethod(inner.share_of_singletons)

        def __call__(self, features: Any, labels: Any) -> Any:
            nonlocal count
            count += 1
            terms = inner(features, labels)
            if count == step:
                act()
            return terms

    training.objective = Objective()  # pyright: ignore[reportAttributeAccessIssue]


def place(folder: Path) -> tuple[int, int]:
    """Whole epochs and further steps in the newest checkpoint."""
    checkpoints = CheckpointFolder(folder)
    assert checkpoints.load_latest() is not None
    assert checkpoints.latest is not None
    return checkpoints.latest


@pytest.mark.parametrize(
    ("number", "raised", "steps"),
    [
        (signal.SIGTERM, SystemExit, (1, 2, STEPS, STEPS + 2, EPOCHS * STEPS)),
        (signal.SIGINT, KeyboardInterrupt, (STEPS + 2,)),
    ],
)
def test_stopped_in_the_middle_of_a_step(
    tmp_path: Path, whole: Any, number: int, raised: type[BaseException], steps: tuple[int, ...]
) -> None:
    """Each process is stopped in one of these steps, and the next one goes on."""
    done = 0
    for step in steps:
        training = resumed(tmp_path, **SETTINGS)
        in_step(training, step - done, lambda: send(number))
        with pytest.raises(raised) as caught:
            training.run()
        done = step
        if number == signal.SIGTERM:
            assert caught.value.code == 143  # pyright: ignore[reportAttributeAccessIssue]
        # The last step of an epoch is whole, too; what follows it, validation and all, is for the next process.
        epochs = (step - 1) // STEPS
        assert place(tmp_path) == (epochs, step - epochs * STEPS)
    training = resumed(tmp_path, **SETTINGS)
    check_same(training.run(), training, whole)


def stop_while_loading(step: int) -> Any:
    def load(first: int, last: int) -> Iterator[Any]:
        for number, batch in enumerate(tiny_training.load(first, last), start=first):
            if number == step:
                send()
            yield batch

    return load


def stop_in_validation(network: Any) -> dict[str, float]:
    with torch.inference_mode():
        network.eval()
        send()
    raise AssertionError("a signal takes effect at once where nothing is half done")


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("first batch", None),
        ("batch", (1, 2)),
        ("validation", (1, STEPS)),
        ("checkpoint", (2, 0)),
        ("report", (2, 0)),
    ],
)
def test_stopped_between_two_steps(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch, moment: str, left: tuple[int, int] | None
) -> None:
    changes: dict[str, Any] = dict(SETTINGS)
    reported: list[int] = []
    if moment == "first batch":
        changes["loader"] = stop_while_loading(0)
    elif moment == "batch":
        changes["loader"] = stop_while_loading(STEPS + 2)
    elif moment == "validation":
        changes["validate"] = stop_in_validation
    elif moment == "report":
        changes["report"] = at(2, lambda: (send(), reported.append(2)))
    else:
        fsync, writes = os.fsync, []

        def stop_at_the_second_write(file: int) -> None:
            writes.append(file)
            if len(writes) == 2:
                send()
            fsync(file)

        monkeypatch.setattr(checkpoint.os, "fsync", stop_at_the_second_write)
    with pytest.raises(SystemExit, match="143"):
        make_training(tmp_path, **changes).run()
    monkeypatch.undo()
    assert reported == ([2] if moment == "report" else []), "the report is made before the process ends"
    assert not list(tmp_path.glob("*partial*"))
    if left is None:
        assert CheckpointFolder(tmp_path).load_latest() is None
    else:
        assert place(tmp_path) == left
    training = resumed(tmp_path, **SETTINGS)
    check_same(training.run(), training, whole)


def test_the_best_weights_outlive_a_stop_in_mid_epoch(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"keep": "best", "validate_every": 1}
    scores = iter([0.9, 0.1, 0.2, 0.3])
    expected = make_training(tmp_path / "a", validate=lambda _: {"score": next(scores)}, **changes).run()
    first = make_training(tmp_path / "b", validate=lambda _: {"score": 0.9}, **changes)
    in_step(first, STEPS + 1)
    with pytest.raises(SystemExit):
        first.run()
    assert place(tmp_path / "b") == (1, 1)
    again = resumed(tmp_path / "b", validate=lambda _: {"score": 0.1}, **changes)
    assert equal_weights(again.run(), expected)
    assert (again.progress.best_epoch, again.progress.best_score) == (1, 0.9)


def test_a_full_disk_while_stopping_leaves_the_former_checkpoint(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    training = make_training(tmp_path, **SETTINGS)

    def fill_the_disk_and_stop() -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(checkpoint.os, "replace", full)
        send()

    in_step(training, STEPS + 2, fill_the_disk_and_stop)
    with pytest.raises(SystemExit, match="143"):
        training.run()
    monkeypatch.undo()
    assert "epoch-00001.step-0000002.pt could not be written (No space left on device)" in caplog.text
    assert place(tmp_path) == (1, 0)
    again = resumed(tmp_path, **SETTINGS)
    check_same(again.run(), again, whole)


def test_a_half_made_step_is_never_saved(tmp_path: Path) -> None:
    """An exit from within the step itself, which no signal can cause."""
    training = make_training(tmp_path)

    def leave() -> None:
        raise SystemExit(143)

    in_step(training, STEPS + 2, leave)
    with pytest.raises(SystemExit):
        training.run()
    assert place(tmp_path) == (1, 0)


def test_several_processes_keep_whole_epochs_alone(tmp_path: Path) -> None:
    """They stop at different steps, and share their batch norms' statistics at an epoch's end."""

    def load(first: int, last: int) -> Iterator[Any]:
        for number, batch in enumerate(tiny_training.load(first, last), start=first):
            if number == STEPS + 2:
                training.processes = Processes(rank=0, world=2)
                send()
            yield batch

    training = make_training(tmp_path, loader=load)
    with pytest.raises(SystemExit, match="143"):
        training.run()
    assert training.progress.part.steps == 2
    assert place(tmp_path) == (1, 0)


def test_a_rank_among_several_defers_no_signal() -> None:
    with Stopping(defer=False) as stopping, stopping.deferred():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_signals_own_handlers_decide_and_are_put_back() -> None:
    seen: list[int] = []

    def handler(number: int, frame: object) -> None:
        seen.append(number)

    signal.signal(signal.SIGTERM, handler)
    with Stopping() as stopping:
        with stopping.deferred():
            send()
            send()
            assert seen == []
            assert not stopping.consistent
        assert seen == [signal.SIGTERM]
        assert stopping.consistent
        send()
        assert seen == [signal.SIGTERM] * 2
        with stopping.deferred():
            pass
        assert len(seen) == 2, "a signal takes effect once"
    assert signal.getsignal(signal.SIGTERM) is handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_shuts_the_door_behind_it_is_left_alone() -> None:
    """pipelines.stages.stage ignores SIGTERM once the first one has begun to end the process."""

    def terminate(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, terminate)
    with pytest.raises(SystemExit), Stopping():
        send()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_ignored_signals_stay_ignored_and_other_threads_have_none() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Stopping():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    results: list[Any] = []

    def elsewhere() -> None:
        with Stopping() as stopping, stopping.deferred():
            results.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert results == [signal.SIG_DFL]
