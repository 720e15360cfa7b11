"""One DVC stage as a child process: its lines as they come, a clear error, and no process left behind."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import IO, Literal, NoReturn, TypeAlias

import psutil

from msclnet.errors import UserError
from pipelines.console import printable

StageStatus = Literal["run", "restored", "unchanged"]
Log = Callable[[str], None]
AnyPopen: TypeAlias = "subprocess.Popen[str] | subprocess.Popen[bytes]"

GRACE_SECONDS = 20.0  # Prefect itself kills a cancelled run after 30
_POLL_SECONDS = 0.25
_BUSY_SECONDS = 3.0
# How DVC reports, from version to version, a dependency that is not there.
_MISSING = re.compile(
    r"failed to reproduce '[^']+': "
    r"(\[Errno 2\] No such file or directory: '|missing data '\w+': |dependency ')(?P<path>[^']+)"
)
# DVC's advice for a terminal; wrong or noise in a log.
_HINTS = (
    "To track the changes with git",
    "git add ",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
    "Data and pipelines are up to date",
)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class StageFailedError(RuntimeError):
    """A stage crashed; trying again may help, for training resumes from its last checkpoint."""


class StageCancelledError(RuntimeError):
    """The run was asked to stop; the stage's processes have ended."""


def run_stage(
    workspace: Path,
    stage: str,
    *,
    environment: Mapping[str, str],
    log: Log = print,
    retries: int = 0,
    stop: Event | None = None,
    grace: float = GRACE_SECONDS,
) -> StageStatus:
    """Bring one stage up to date with `dvc repro --single-item`.

    Whatever ends the call early (Ctrl-C, SIGTERM, a cancelled flow run, `stop`), the stage's processes first get
    SIGTERM and `grace` seconds to save their state; then they are killed.

    Args:
        workspace: the project, or a clone of it.
        stage: the stage's name.
        environment: all variables of the child.
        log: receives each line of output.
        retries: how often a crashed stage is started again.
        stop: set by another thread to end the run.
        grace: seconds between SIGTERM and SIGKILL.

    Returns:
        `run`; `restored` from the cache; or `unchanged`.

    Raises:
        UserError: the stage ended with an `error: ...` line; trying again is useless.
        StageFailedError: it ended in any other way.
        StageCancelledError: `stop` was set.
    """
    for left in range(retries, -1, -1):
        try:
            return _run_stage(workspace, stage, environment, log, stop or Event(), grace)
        except StageFailedError as error:
            if not left:
                raise
            log(f"{str(error).partition(';')[0]}: trying again")
    raise AssertionError("unreachable")


def run_dvc(
    workspace: Path,
    *arguments: str,
    environment: Mapping[str, str],
    log: Log = print,
    stop: Event | None = None,
    grace: float = GRACE_SECONDS,
) -> tuple[int, list[str]]:
    """Run one DVC command; arguments as of `run_stage`.

    Returns:
        Exit status, and the last 40 lines of the output.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    tail: deque[str] = deque(maxlen=40)
    lines: SimpleQueue[str | None] = SimpleQueue()
    with sigterm_raises():
        process = subprocess.Popen(
            command,
            cwd=workspace,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches only this process, and the child leads a process group
        )
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        try:
            _follow(process, lines, tail, log, stop or Event())
            end_group(process, grace=0.0)  # what a killed `dvc` left behind, or a process in the background
        except BaseException:
            end_group(process, grace=grace)
            while (line := _next(lines, 0.1)) is not None:  # what the stage printed while it saved its state
                log(line)
            raise
    return process.returncode, list(tail)


def end_group(process: AnyPopen, *, grace: float) -> None:
    """End a child that leads a process group, and all that it has started.

    Every process of the group gets SIGTERM; `dvc` ends at once and records nothing, the stage saves its state. Whatever
    is left after `grace` seconds is killed, and so is a descendant that has left the group.
    """
    descendants = _descendants(process)
    try:
        if grace > 0:
            _signal(process, signal.SIGTERM)
            _wait(process, descendants, seconds=grace)
    finally:
        _signal(process, signal.SIGKILL)
        for member in descendants:
            with suppress(psutil.Error):
                member.kill()
        _wait(process, descendants, seconds=5.0)


def processes_of(process: AnyPopen) -> list[psutil.Process]:
    """The child's descendants and the rest of the process group that it leads, itself included, as far as they run."""
    found = {member.pid: member for member in _descendants(process)}
    for member in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getpgid(member.pid) == process.pid:
                found[member.pid] = member
    return [member for member in found.values() if _runs(member)]


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise SystemExit(143) here, where it would end this process on the spot.

    A handler that another library (Prefect) has set stays, and threads other than the main one get no signals.
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


def _run_stage(
    workspace: Path, stage: str, environment: Mapping[str, str], log: Log, stop: Event, grace: float
) -> StageStatus:
    status: StageStatus | None = None
    waiting = False

    def take(line: str) -> None:
        nonlocal status
        # DVC reports before the stage prints anything, so the first line that matches is DVC's own.
        status = status or _status(line, stage)
        log(line)

    while True:
        status = None
        arguments = ("repro", "--single-item", stage)
        code, tail = run_dvc(workspace, *arguments, environment=environment, log=take, stop=stop, grace=grace)
        if code == 0:
            return status or "unchanged"
        if not any("is busy, it is being blocked by" in line for line in tail):
            raise _failure(workspace, stage, code, tail)
        if not waiting:
            log(f"another DVC command works on the files of stage {stage}: waiting for its end")
            waiting = True
        if stop.wait(_BUSY_SECONDS):
            raise StageCancelledError(f"stage {stage} was stopped")


def _follow(
    process: "subprocess.Popen[str]",
    lines: "SimpleQueue[str | None]",
    tail: "deque[str]",
    log: Log,
    stop: Event,
) -> None:
    while True:
        if stop.is_set():
            raise StageCancelledError("stopped")
        # The pipe's end says that all was read; a process in the background may keep it open for long.
        ended = process.poll() is not None
        line = _next(lines, _POLL_SECONDS)
        if line is None and (ended or process.poll() is not None):
            return
        if line and not line.strip().startswith(_HINTS):
            tail.append(line)
            log(line)


def _read(stream: IO[str], lines: "SimpleQueue[str | None]") -> None:
    """Lines without terminal codes; each state of a progress bar, which ends in a carriage return, is one."""
    with suppress(ValueError), stream:  # closed by the other thread
        for line in stream:
            lines.put(printable(_ESCAPES.sub("", line).rstrip()))
    lines.put(None)


def _next(lines: "SimpleQueue[str | None]", seconds: float) -> str | None:
    try:
        return lines.get(timeout=seconds)
    except Empty:
        return None


def _status(line: str, stage: str) -> StageStatus | None:
    meaning: dict[str, StageStatus] = {
        f"Running stage '{stage}':": "run",
        f"Stage '{stage}' is cached - skipping run": "restored",
        f"Stage '{stage}' didn't change, skipping": "unchanged",
    }
    return next((status for start, status in meaning.items() if line.startswith(start)), None)


def _failure(workspace: Path, stage: str, code: int, tail: list[str]) -> Exception:
    # A stage ends with exit status 2 and an `error: ` line for what only the user can repair; DVC's exit status
    # is always 255 then, but it names the stage's.
    mistakes = [line.removeprefix("error: ") for line in tail if line.startswith("error: ")]
    for line in tail:
        if match := _MISSING.search(line):
            path = match["path"].removeprefix(f"{workspace.resolve()}/")
            return UserError(
                f"stage {stage} needs {path}, which is not there: run the stages before it first"
            )
    exits = [match[1] for line in tail if (match := re.search(r"exited with (-?\d+)", line))]
    if mistakes and (not exits or exits[-1] == "2"):
        return UserError(mistakes[-1])
    last = "\n".join(f"    {line}" for line in tail if line.strip())
    return StageFailedError(
        f"stage {stage} failed (exit status {exits[-1] if exits else code}); its last lines:\n{last}"
    )


def _descendants(process: AnyPopen) -> list[psutil.Process]:
    if process.poll() is not None:  # the number may be another process's by now
        return []
    with suppress(psutil.Error):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def _signal(process: AnyPopen, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _wait(process: AnyPopen, descendants: list[psutil.Process], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended = process.poll() is not None  # reaps it
        if ended and not processes_of(process) and not any(map(_runs, descendants)):
            return
        time.sleep(0.1)


def _runs(process: psutil.Process) -> bool:
    """False for a process that has ended and was not reaped yet."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
