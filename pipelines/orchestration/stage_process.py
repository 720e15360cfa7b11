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
from typing import IO, Any, Literal, NoReturn

import psutil

from msclnet.errors import UserError
from pipelines.console import printable

StageStatus = Literal["run", "restored", "unchanged"]
Log = Callable[[str], None]

GRACE_SECONDS = 20.0  # Prefect itself kills a cancelled run after 30
_BUSY_SECONDS = 3.0
_STATUS: dict[str, StageStatus] = {
    "Running stage '{}':": "run",
    "Stage '{}' is cached - skipping run": "restored",
    "Stage '{}' didn't change, skipping": "unchanged",
}
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
) -> StageStatus:
    """Bring one stage of the project, or of a clone of it, up to date with `dvc repro --single-item`.

    Whatever ends the call early (Ctrl-C, SIGTERM, a cancelled flow run, `stop`), the stage's processes first get
    SIGTERM and 20 seconds to save their state; then they are killed.

    Args:
        workspace: the project, or a clone of it.
        stage: the stage's name.
        environment: all variables of the child.
        log: receives each line of output.
        retries: how often a crashed stage is started again.
        stop: set by another thread to end the run.

    Raises:
        UserError: the stage ended with an `error: ...` line; trying again is useless.
        StageFailedError: it ended in any other way.
        StageCancelledError: `stop` was set.
    """
    status: StageStatus | None = None

    def take(line: str) -> None:
        nonlocal status
        # DVC reports before the stage prints anything, so the first line that matches is DVC's own.
        found: list[StageStatus] = [s for start, s in _STATUS.items() if line.startswith(start.format(stage))]
        status = status or (found[0] if found else None)
        log(line)

    while True:
        status = None
        command = ("repro", "--single-item", stage)
        code, tail = run_dvc(workspace, *command, environment=environment, log=take, stop=stop)
        if code == 0:
            return status or "unchanged"
        if any("is busy, it is being blocked by" in line for line in tail):
            log(f"another DVC command works on the files of stage {stage}: waiting for its end")
            if (stop or Event()).wait(_BUSY_SECONDS):
                raise StageCancelledError(f"stage {stage} was stopped")
            continue
        failure = _failure(workspace, stage, code, tail)
        if not retries or isinstance(failure, UserError):
            raise failure
        retries -= 1
        log(f"{str(failure).partition(';')[0]}: trying again")


def run_dvc(
    workspace: Path,
    *arguments: str,
    environment: Mapping[str, str],
    log: Log = print,
    stop: Event | None = None,
) -> tuple[int, list[str]]:
    """Run one DVC command; returns its exit status and the last 40 lines of its output. Arguments as of `run_stage`."""
    tail: deque[str] = deque(maxlen=40)
    lines: SimpleQueue[str] = SimpleQueue()
    with sigterm_raises():
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments],
            cwd=workspace,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches only this process, and the child leads a process group
        )
        reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
        reader.start()
        try:
            # A process in the background may keep the pipe open for long after the end of the child.
            while process.poll() is None or not lines.empty():
                if stop is not None and stop.is_set():
                    raise StageCancelledError("stopped")
                with suppress(Empty):
                    line = lines.get(timeout=0.1)
                    tail.append(line)
                    log(line)
            end_group(process, grace=0.0)  # what a killed `dvc` left behind, or a process in the background
        except BaseException:
            end_group(process, grace=GRACE_SECONDS)
            raise
        finally:
            reader.join(5.0)
            while not lines.empty():  # the last ones, or what the stage printed while it saved its state
                tail.append(lines.get())
                log(tail[-1])
    return process.returncode, list(tail)


def end_group(process: "subprocess.Popen[Any]", *, grace: float) -> None:
    """End a child that leads a process group, and all that runs in the group: by SIGTERM, and after `grace` s SIGKILL.

    At SIGTERM `dvc` ends at once and records nothing, and the stage saves its state.
    """
    try:
        if grace:
            _signal_and_wait(process, signal.SIGTERM, seconds=grace)
    finally:
        _signal_and_wait(process, signal.SIGKILL, seconds=5.0)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise SystemExit(143) here, unless another library (Prefect) handles it."""

    def leave(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()  # the others get no signals
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _read(stream: IO[str], lines: "SimpleQueue[str]") -> None:
    """Lines without terminal codes; each state of a progress bar, which ends in a carriage return, is one."""
    for line in stream:
        text = printable(_ESCAPES.sub("", line).rstrip())
        if text and not text.strip().startswith(_HINTS):
            lines.put(text)


def _failure(workspace: Path, stage: str, code: int, tail: list[str]) -> Exception:
    for line in tail:
        if match := _MISSING.search(line):
            path = match["path"].removeprefix(f"{workspace.resolve()}/")
            return UserError(
                f"stage {stage} needs {path}, which is not there: run the stages before it first"
            )
    # A stage ends with exit status 2 and an `error: ` line for what only the user can repair; DVC's own exit status is
    # always 255 then, but it names the stage's.
    mistakes = [line.removeprefix("error: ") for line in tail if line.startswith("error: ")]
    exits = [match[1] for line in tail if (match := re.search(r"exited with (-?\d+)", line))]
    if mistakes and (not exits or exits[-1] == "2"):
        return UserError(mistakes[-1])
    status = exits[-1] if exits else code
    last = "\n".join(f"    {line}" for line in tail)
    return StageFailedError(f"stage {stage} failed (exit status {status}); its last lines:\n{last}")


def _signal_and_wait(process: "subprocess.Popen[Any]", number: int, *, seconds: float) -> None:
    """Signal the group; wait until none of it runs. A process that ended counts even if it is not reaped."""
    deadline = time.monotonic() + seconds
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
        while process.poll() is None or _runs_in_group(process.pid):
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)


def _runs_in_group(group: int) -> bool:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False
