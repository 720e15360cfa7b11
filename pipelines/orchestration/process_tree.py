"""Ending a child with everything that it has started."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import psutil

_SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ksh"}


def tree_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The child's descendants and everything else in its session, itself included if it still lives.

    An orphan is no descendant any more, but stays in the session that `start_new_session` made.
    """
    found: dict[int, psutil.Process] = {}
    if process.poll() is None:  # otherwise the number may be somebody else's by now
        with suppress(psutil.Error):
            top = psutil.Process(process.pid)
            found |= {member.pid: member for member in [top, *top.children(recursive=True)]}
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):
            if pid not in found and os.getsid(pid) == process.pid:
                found[pid] = psutil.Process(pid)
    return [member for member in found.values() if is_alive(member)]


def end_tree(process: subprocess.Popen[bytes], *, grace: float, drain: Callable[[], object]) -> None:
    """End a child that leads a session, and all that it has started.

    `dvc` goes first, for it would record a stage that obeys SIGTERM with exit status 0 as finished. Then the
    stage's own program gets SIGTERM, alone: its own children (data loader processes) are for it to end, and it could
    not save its state without them. Whatever is left after the grace time is killed.

    Args:
        process: the child, started with `start_new_session=True`.
        grace: seconds for the stage's program to end by itself.
        drain: called again and again meanwhile, to read the child's output.
    """
    try:
        members = tree_of(process)
        if grace > 0 and members:
            programs = _programs(process, members)
            _signal([member for member in members if member.pid == process.pid], signal.SIGTERM)
            _signal(programs, signal.SIGTERM)
            deadline = time.monotonic() + grace
            while time.monotonic() < deadline and any(is_alive(program) for program in programs):
                drain()
                time.sleep(0.05)
    finally:
        # Twice: a process may have been started between the look and the kill.
        for _ in range(2):
            left = tree_of(process)
            _signal(left, signal.SIGKILL)
            _wait(left, seconds=5)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        drain()


def end_processes(processes: list[psutil.Process], *, grace: float) -> None:
    """Send SIGTERM to all but the stages among them, wait up to `grace` seconds, then kill what is left.

    A stage is spared at first, for the run that has started it ends it in order.
    """
    _signal([process for process in processes if not _in_stage(process)], signal.SIGTERM)
    try:
        _wait(processes, seconds=grace)
    finally:
        left = [process for process in processes if is_alive(process)]
        for process in list(left):
            with suppress(psutil.Error):
                left += process.children(recursive=True)
        _signal(left, signal.SIGKILL)
        _wait(left, seconds=5)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise SystemExit(143) here, where it would end this process on the spot.

    A handler that somebody else (Prefect) has set stays, and threads other than the main one get no signals.
    """

    def leave(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _programs(process: subprocess.Popen[bytes], members: list[psutil.Process]) -> list[psutil.Process]:
    """The first process on each way down that is neither `dvc` nor a shell."""
    parents = {}
    for member in members:
        with suppress(psutil.Error):
            parents[member.pid] = member.ppid()
    passing = {process.pid} | {member.pid for member in members if _is_shell(member)}
    return [
        member
        for member in members
        if member.pid not in passing
        and (parents.get(member.pid) in passing or parents.get(member.pid) not in parents)
    ]


def _in_stage(process: psutil.Process) -> bool:
    """Whether the process belongs to a session that `dvc` leads, as `run_stage` starts it."""
    with suppress(psutil.Error, OSError):
        return "dvc" in psutil.Process(os.getsid(process.pid)).cmdline()
    return False


def _is_shell(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return Path(process.exe()).name in _SHELLS
    return False


def is_alive(process: psutil.Process) -> bool:
    """Whether the process still runs; one that has ended and was not reaped yet does not."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _wait(processes: list[psutil.Process], *, seconds: float) -> None:
    # psutil's own wait would take the exit status from subprocess, and count what nobody reaps as alive.
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(is_alive(process) for process in processes):
        time.sleep(0.05)


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
