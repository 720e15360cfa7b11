"""One DVC stage as a child process: live lines, a telling error, and no process left behind."""

import os
import re
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Literal

from msclnet.errors import UserError
from pipelines.console import tellable
from pipelines.orchestration.lines import LineSplitter
from pipelines.orchestration.process_tree import end_tree, sigterm_raises

StageStatus = Literal["run", "restored", "unchanged"]

GRACE_SECONDS = 20.0  # Prefect itself kills a cancelled run after 30
_POLL_SECONDS = 0.25
_BUSY_SECONDS = 3.0
# DVC's words, from version to version, for a dependency that is not there.
_MISSING = re.compile(
    r"failed to reproduce '[^']+': "
    r"(\[Errno 2\] No such file or directory: '|missing data '\w+': |dependency ')(?P<path>[^']+)"
)
# DVC's advice to somebody at a terminal; wrong or noise in a log.
_HINTS = (
    "To track the changes with git",
    "git add ",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
    "Data and pipelines are up to date",
)


class StageFailedError(RuntimeError):
    """A stage crashed; trying again may help, for training goes on from its last checkpoint."""


class StageCancelledError(RuntimeError):
    """The run was asked to stop; the stage's processes have ended."""


def run_stage(
    workspace: Path,
    stage: str,
    *,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    locks: tuple[int, ...] = (),
    stop: Event | None = None,
    grace: float = GRACE_SECONDS,
) -> StageStatus:
    """Bring one stage up to date with `dvc repro --single-item`.

    Whatever ends the call early (Ctrl-C, SIGTERM, a cancelled flow run, `stop`), the stage's program first gets
    SIGTERM and `grace` seconds to save its state; then the whole process tree is killed.

    Args:
        workspace: the project, or an isolated copy of it.
        stage: the stage's name.
        environment: all variables of the child.
        on_line: receives each line of output as it comes; progress bars at most every 10 s.
        locks: descriptors of locks that the child is to hold as well, should this process be killed.
        stop: set by another thread to end the run.
        grace: seconds between SIGTERM and SIGKILL.

    Returns:
        `run`; `restored` from the cache; or `unchanged`.

    Raises:
        UserError: the stage ended with an `error: ...` line; trying again is useless.
        StageFailedError: it ended in any other way.
        StageCancelledError: `stop` was set.
    """
    waiting = False
    while True:
        status, tail, code = _once(workspace, stage, environment, on_line, locks, stop, grace)
        if code == 0:
            return status or "unchanged"
        blocked = any("is busy, it is being blocked by" in line for line in tail)
        if not blocked:
            raise _failure(workspace, stage, code, tail)
        if not waiting:
            on_line(f"another DVC command works on the files of stage {stage}: waiting for its end")
            waiting = True
        if (stop or Event()).wait(_BUSY_SECONDS):
            raise StageCancelledError(f"stage {stage} was stopped")


def _once(
    workspace: Path,
    stage: str,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    locks: tuple[int, ...],
    stop: Event | None,
    grace: float,
) -> tuple[StageStatus | None, list[str], int]:
    tail: deque[str] = deque(maxlen=40)
    status: StageStatus | None = None

    def take(line: str) -> None:
        nonlocal status
        line = tellable(line)  # what goes from here into logs, messages and Prefect's database
        # DVC speaks before the stage does, so the first word on the matter is DVC's own.
        status = status or _status(line, stage)
        if line.strip().startswith(_HINTS):
            return
        tail.append(line)
        on_line(line)

    splitter = LineSplitter(take)
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    with sigterm_raises():
        process = subprocess.Popen(
            command,
            cwd=workspace,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only us, and what is left can be found by its session
            pass_fds=locks,
        )
        try:
            _pump(process, splitter, stop, stage)
        except BaseException:
            end_tree(process, grace=grace, drain=lambda: _read(process, splitter, 0.1))
            splitter.close()
            raise
        finally:
            # A background process of the stage, or what a killed `dvc` left behind.
            end_tree(process, grace=0.0, drain=lambda: None)
            assert process.stdout is not None
            process.stdout.close()
    splitter.close()
    return status, list(tail), process.returncode


def _pump(process: subprocess.Popen[bytes], splitter: LineSplitter, stop: Event | None, stage: str) -> None:
    while True:
        more = _read(process, splitter, _POLL_SECONDS)
        if stop is not None and stop.is_set():
            raise StageCancelledError(f"stage {stage} was stopped")
        # The pipe's end says that everything was read; a process in the background may keep it open for long.
        if more is None:
            process.wait()
            return
        if not more and process.poll() is not None:
            while _read(process, splitter, 0.0):
                pass
            return


def _read(process: subprocess.Popen[bytes], splitter: LineSplitter, timeout: float) -> bool | None:
    """Pass on what there is to read: True if there was something, False after the timeout, None at the end."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    if not select.select([descriptor], [], [], timeout)[0]:
        splitter.tick(time.monotonic())
        return False
    data = os.read(descriptor, 65536)
    splitter.feed(data, time.monotonic())
    return True if data else None


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
