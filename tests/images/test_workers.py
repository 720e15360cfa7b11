"""Worker processes: their results, and what happens when one of them or their parent is killed."""

import gc
import multiprocessing
import multiprocessing.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from jobs import refuse, square, square_and_stop, square_or_die

from msclnet.errors import UserError
from msclnet.images.batches import step_loader
from msclnet.worker_processes import (
    MIB,
    begin_worker,
    in_processes,
    loader_errors_explained,
    require_shared_memory,
    use_short_socket_paths,
)

ROOT = Path(__file__).resolve().parents[2]


def test_results_come_in_order_and_workers_leave_it_to_their_parent_to_stop() -> None:
    for job, workers in ((square, 1), (square_and_stop, 2)):
        with in_processes(job, range(6), workers=workers) as results:
            assert list(results) == [number * number for number in range(6)]


def test_a_killed_worker_is_reported_and_not_waited_for() -> None:
    with (
        pytest.raises(UserError, match=r"a worker process died.*MSCLNET_WORKERS"),
        in_processes(square_or_die, range(20), workers=2) as results,
    ):
        list(results)


def test_an_error_in_a_worker_keeps_its_kind() -> None:
    with pytest.raises(OSError, match="No space left"), in_processes(refuse, range(4), workers=2) as results:
        list(results)


PARENT = """
import os, time
from msclnet.worker_processes import in_processes

def sleep(number):
    print(f"{os.getpid()}\\n", end="", flush=True)  # in one piece
    time.sleep(600)

if __name__ == "__main__":
    with in_processes(sleep, range(4), workers=2) as results:
        list(results)
"""


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, program], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while any(w.is_running() and w.status() != psutil.STATUS_ZOMBIE for w in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.stdout.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed: Bus error. \nIt"), "DataLoader .*Bus error"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), r"pid\(s\) 7, 8"),
        (RuntimeError("DataLoader timed out after 600 seconds"), "timed out"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (EOFError(), "EOFError"),
    ],
)
def test_every_sign_of_a_dead_loader_is_explained(error: Exception, reason: str) -> None:
    with (
        pytest.raises(
            UserError,
            match=rf"^a process that prepares batches failed \(.*{reason}.*\): .*/dev/shm.*MSCLNET_WORKERS",
        ),
        loader_errors_explained(),
    ):
        raise error


def test_the_news_of_a_death_comes_a_moment_after_the_broken_connection() -> None:
    def news(number: int, frame: object) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    before = signal.signal(signal.SIGALRM, news)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with (
            pytest.raises(UserError, match=r"\(DataLoader worker \(pid 7\) is killed"),
            loader_errors_explained(),
        ):
            raise ConnectionResetError(104, "Connection reset by peer")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("error", "told"), [(EOFError(), False), (ConnectionResetError(), False), (KeyError(), True)]
)
def test_what_a_parent_breaks_off_is_no_news(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, told: bool
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        begin_worker(0)
        sys.excepthook(type(error), error, None)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert (type(error).__name__ in capsys.readouterr().err) == told


class OutOfSharedMemory:
    """Batches whose sharing fails as torch's does where /dev/shm is full."""

    def __getitem__(self, step: int) -> torch.Tensor:
        if step == 2:
            raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left")
        return torch.zeros(1)


def test_a_batch_that_does_not_fit_into_shared_memory_ends_the_training() -> None:
    """In the worker's own thread, so that the error reaches the training; see TrainingBatches."""
    loader = step_loader(OutOfSharedMemory(), first=0, last=4, workers=1, pinned=False)  # pyright: ignore[reportArgumentType]
    with (
        pytest.raises(UserError, match=r"unable to allocate shared memory.*--shm-size.*MSCLNET_WORKERS"),
        loader_errors_explained(),
    ):
        list(loader)
    # The worker ignores SIGTERM, and torch leaves it waiting: this process would never end.
    for worker in multiprocessing.active_children():
        with suppress(RuntimeError):  # torch's handler may report the death
            worker.kill()
            worker.join()
    gc.collect()  # torch watches the worker as long as the loader is there


@pytest.mark.parametrize(
    ("mib", "workers", "free", "most"),
    [(8, 8, 264, None), (8, 8, 263, 7), (8, 8, 64, 1), (8, 1, 39, 0), (8, 0, 8, None)],
)
def test_room_for_the_batches_that_workers_prepare(
    mib: int, workers: int, free: int, most: int | None
) -> None:
    """Each worker prepares four batches ahead, and one is in use."""
    if most is None:
        require_shared_memory(mib * MIB, workers=workers, free=free * MIB)
    else:
        words = rf"/dev/shm has {free} MiB free.*--shm-size, or set MSCLNET_WORKERS to {most}$"
        with pytest.raises(UserError, match=words):
            require_shared_memory(mib * MIB, workers=workers, free=free * MIB)


LONG_TMPDIR = """
import tempfile, torch
from pathlib import Path
from msclnet.images.batches import step_loader

class Batches:
    def __getitem__(self, step):
        return torch.full((1000,), step).share_memory_()

if __name__ == "__main__":
    print(tempfile.gettempdir())
    print([int(batch[0]) for batch in step_loader(Batches(), first=0, last=3, workers=1, pinned=False)])
    print(tempfile.gettempdir())
"""


def test_a_long_tmpdir_stops_no_loader(tmp_path: Path) -> None:
    """The path of a socket has at most 107 characters."""
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    program = tmp_path / "program.py"
    program.write_text(LONG_TMPDIR)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == [str(folder), "[0, 1, 2]", str(folder)]
    assert "AF_UNIX" not in done.stderr


def test_a_long_tmpdir_without_another_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise PermissionError(13, "Permission denied", "/tmp/pymp-1")

    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 80)
    monkeypatch.setattr(multiprocessing.util, "get_temp_dir", refuse)
    with pytest.raises(UserError, match=r"TMPDIR is longer than \d+ characters.*MSCLNET_WORKERS"):
        use_short_socket_paths()
    assert tempfile.tempdir == "/" + "x" * 80


def test_other_errors_of_the_training_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes do not fit"), loader_errors_explained():
        raise RuntimeError("shapes do not fit")
