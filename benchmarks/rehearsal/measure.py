"""Runs a program and says what it took: time, processor time and memory of all its processes together."""

import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipelines.orchestration.stage_process import end_group, processes_of

INTERVAL = 0.2  # seconds between two looks at the memory, or more:
SHARE = 0.02  # of the time, at most, goes into looking
GRACE = 10.0  # seconds that an interrupted program has for ending by itself


@dataclass(frozen=True)
class Measured:
    """What a program took.

    Attributes:
        status: Exit status.
        seconds: From start to end.
        cpu_seconds: Processor time, user and system, of all processes that ended in order.
        peak_bytes: Largest sum of the processes' proportional set sizes (PSS), looked at up to five times a second.
            A page that several processes share counts once; pages of mapped files that lie in memory count too.
            Where the system tells no PSS, the sum of what each process has for itself.
    """

    status: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run_measured(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Measured:
    """Run a program to its end; it prints where this process prints.

    Whatever ends the wait for it ends the program too, with everything that it has started.

    Args:
        command: Program and arguments.
        cwd: Folder to run in.
        env: All its environment variables.
    """
    before, started, peak = _cpu_seconds(), time.perf_counter(), 0
    process = subprocess.Popen(command, cwd=cwd, env=dict(env), start_new_session=True)
    try:
        while process.poll() is None:
            looking = time.process_time()
            peak = max(peak, sum(map(_memory, processes_of(process))))
            took = time.process_time() - looking
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(INTERVAL, took / SHARE))
    except BaseException:
        end_group(process, grace=GRACE)
        raise
    seconds = time.perf_counter() - started
    return Measured(process.returncode, seconds, _cpu_seconds() - before, peak)


def _cpu_seconds() -> float:
    """Of the children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _memory(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        memory = process.memory_full_info()
        return getattr(memory, "pss", memory.uss)
    return 0
