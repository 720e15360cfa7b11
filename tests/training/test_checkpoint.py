"""Checkpoints under bad luck: killed writers, torn files, full disks, two processes."""

import errno
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked, die

from msclnet.errors import UserError
from msclnet.training import checkpoint
from msclnet.training.checkpoint import (
    CheckpointFolder,
    DamagedCheckpointError,
    read_checkpoint,
    remove_finished,
)


def state_of(epoch: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(epoch)
    return {
        "network": {"weight": torch.randn(50, 40, generator=generator)},
        "progress": {"epoch": epoch, "history": [{"epoch": 1, "total": 0.5}], "best": float("-inf")},
        "extra": {"key": "abc", "nothing": None},
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def filled(folder: Path, *, epochs: int = 2, keep: int = 2) -> CheckpointFolder:
    checkpoints = CheckpointFolder(folder, keep=keep)
    for epoch in range(1, epochs + 1):
        checkpoints.save(state_of(epoch), epoch=epoch)
    return checkpoints


def newest(folder: Path) -> Path:
    return max(folder.glob("epoch-*.pt"))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    found = filled(tmp_path / "deep" / "er").load_latest()
    assert same(found, state_of(2))


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_keeps_the_latest(tmp_path: Path, keep: int) -> None:
    filled(tmp_path, epochs=12, keep=keep)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [f"epoch-{epoch:05d}.pt" for epoch in range(13 - keep, 13)]


def test_a_part_of_an_epoch_stands_between_the_whole_ones(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep=9)
    assert checkpoints.latest is None
    order = [(2, 0), (2, 9), (2, 10), (2, 1_000_000), (3, 0), (10, 0), (10, 1)]
    for place, (epoch, step) in enumerate(order):
        checkpoints.save(state_of(place), epoch=epoch, step=step)
        assert checkpoints.latest == (epoch, step)
    for place, (epoch, step) in reversed(list(enumerate(order))):
        again = CheckpointFolder(tmp_path)
        assert same(again.load_latest(), state_of(place))
        assert again.latest == (epoch, step)
        newest(tmp_path).unlink()


def test_parts_count_among_the_kept(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, epochs=2, keep=2)
    checkpoints.save(state_of(3), epoch=2, step=7)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "epoch-00002.pt",
        "epoch-00002.step-0000007.pt",
    ]
    newest(tmp_path).write_bytes(b"torn")
    assert same(checkpoints.load_latest(), state_of(2))
    assert (tmp_path / "epoch-00002.step-0000007.damaged").exists()


def test_finished_trainings_go_later_and_others_stay(tmp_path: Path) -> None:
    done, running, own = (filled(tmp_path / name) for name in ("done", "running", "own"))
    done.finish()
    own.finish()
    remove_finished(tmp_path, exclude=own)
    assert done.load_latest() is not None  # its result may not be in the cache yet
    remove_finished(tmp_path, exclude=own, older_than=-1.0)
    assert not done.folder.exists()
    assert running.load_latest() is not None
    assert own.load_latest() is not None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_torn_file_gives_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, share: float
) -> None:
    checkpoints = filled(tmp_path)
    path = newest(tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert same(checkpoints.load_latest(), state_of(1))
    assert path.with_suffix(".damaged").exists()
    assert str(path) in caplog.text
    assert "*.damaged" in caplog.text
    checkpoints.save(state_of(2), epoch=2)
    assert same(checkpoints.load_latest(), state_of(2))


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    filled(tmp_path)
    path = newest(tmp_path)
    whole = path.read_bytes()
    assert same(read_checkpoint(path), state_of(2))
    for at in range(0, len(whole), 97):
        data = bytearray(whole)
        data[at] ^= 1 << (at % 8)
        path.write_bytes(data)
        with pytest.raises(DamagedCheckpointError):
            read_checkpoint(path)


def test_all_of_them_damaged_or_none_there(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path)
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(b"")
    assert checkpoints.load_latest() is None
    assert CheckpointFolder(tmp_path / "empty").load_latest() is None


def test_reading_runs_no_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "trapped"),)

    CheckpointFolder(tmp_path).save({"trap": Trap()}, epoch=1)
    with pytest.raises(Exception, match=r"(?i)weights.only|unsupported"):
        read_checkpoint(newest(tmp_path))
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(("call", "reason"), [("fsync", errno.ENOSPC), ("replace", errno.EACCES)])
def test_a_failed_write_leaves_the_former_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, reason: int
) -> None:
    checkpoints = filled(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def refused(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(checkpoint.os, call, refused)
    with pytest.raises(UserError, match=rf"epoch-00003\.pt could not be written \({os.strerror(reason)}\)"):
        checkpoints.save(state_of(3), epoch=3)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_really_full_disk(tmp_path: Path) -> None:
    """The kernel's own refusal: a process that may write no file beyond 4 KiB."""
    filled(tmp_path)

    def work(child: Forked) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            CheckpointFolder(tmp_path).save(state_of(3), epoch=3)
        except UserError as error:
            child.say(error)

    child = Forked(work)
    assert "could not be written (File too large)" in child.hear()
    assert child.wait() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00001.pt", "epoch-00002.pt"]


def killed_in_mid_write(folder: Path) -> None:
    def work(_: Forked) -> None:
        checkpoint.os.fsync = die
        CheckpointFolder(folder).save(state_of(3), epoch=3)

    assert Forked(work).wait() == -signal.SIGKILL
    assert [path for path in folder.iterdir() if "partial" in path.name], "it was to be half written"


def test_a_writer_killed_in_mid_write(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path)
    killed_in_mid_write(tmp_path)
    assert same(checkpoints.load_latest(), state_of(2))
    checkpoints.save(state_of(3), epoch=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00002.pt", "epoch-00003.pt"]


def holder(folder: Path) -> Forked:
    """A child that says `held` or why not, and holds on until it hears a line."""

    def work(child: Forked) -> None:
        try:
            with CheckpointFolder(folder).locked():
                child.say("held")
                child.hear()
        except UserError as error:
            child.say(error)

    return Forked(work)


def let_go(child: Forked) -> None:
    child.say("let go")
    assert child.wait() == 0


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first = holder(tmp_path)
    assert first.hear() == "held"
    second = holder(tmp_path)
    assert "another process is training this very configuration" in second.hear()
    assert second.wait() == 0
    other = holder(tmp_path / "another configuration")
    assert other.hear() == "held"
    let_go(other)
    let_go(first)
    with pytest.raises(RuntimeError, match="within"), CheckpointFolder(tmp_path).locked():
        raise RuntimeError("within")
    third = holder(tmp_path)
    assert third.hear() == "held"
    let_go(third)


def test_the_lock_goes_with_a_killed_holder_even_where_its_workers_live_on(tmp_path: Path) -> None:
    """Processes that prepare batches are forked from the training and notice its end only after seconds."""

    def work(child: Forked) -> None:
        with CheckpointFolder(tmp_path).locked():
            child.say(Forked(lambda _: time.sleep(60)).pid)
            child.hear()

    first = Forked(work)
    worker = int(first.hear())
    try:
        first.kill()
        os.kill(worker, 0)  # it is alive
        second = holder(tmp_path)
        assert second.hear() == "held"
        let_go(second)
    finally:
        os.kill(worker, signal.SIGKILL)
