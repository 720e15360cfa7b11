"""Worker processes: their results, and what happens when one of them or their parent is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from msclnet.errors import UserError
from msclnet.worker_processes import begin_worker, dead_workers_explained, in_processes

ROOT = Path(__file__).resolve().parents[2]


def square(number: int) -> int:
    return number * number


def square_or_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def square_and_stop(number: int) -> int:
    os.kill(os.getpid(), (signal.SIGTERM, signal.SIGINT)[number % 2])
    return number * number


def refuse(number: int) -> int:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers: int) -> None:
    with in_processes(square, range(20), workers=workers) as results:
        assert list(results) == [number * number for number in range(20)]


def test_a_killed_worker_is_told_and_not_waited_for() -> None:
    with (
        pytest.raises(UserError, match=r"a worker process died.*MSCLNET_WORKERS"),
        in_processes(square_or_die, range(20), workers=2) as results,
    ):
        list(results)


def test_workers_leave_it_to_their_parent_to_stop() -> None:
    with in_processes(square_and_stop, range(6), workers=2) as results:
        assert list(results) == [number * number for number in range(6)]


def test_an_error_in_a_worker_keeps_its_kind() -> None:
    with pytest.raises(OSError, match="No space left"), in_processes(refuse, range(4), workers=2) as results:
        list(results)


PARENT = """
import os, time
from msclnet.worker_processes import in_processes

def sleep(number):
    print(os.getpid(), flush=True)
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
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. \nIt"),
            "DataLoader .*Bus error",
        ),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), r"pid\(s\) 7, 8"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (EOFError(), "EOFError"),
    ],
)
def test_every_sign_of_a_dead_loader_is_explained(error: Exception, reason: str) -> None:
    with (
        pytest.raises(
            UserError, match=rf"^a process that prepares batches died \(.*{reason}.*\): .*/dev/shm"
        ),
        dead_workers_explained(),
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
            dead_workers_explained(),
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


def test_other_errors_of_the_training_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes do not fit"), dead_workers_explained():
        raise RuntimeError("shapes do not fit")
