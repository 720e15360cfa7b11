"""What a program took is measured over all its processes, and nothing that was started is left running."""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import psutil
import pytest

from benchmarks.rehearsal import Measured, run_measured

MIB = 2**20
HOLD = "import time; held = b'x' * (150 * 2**20); time.sleep(0.8)"


def python(code: str, *, cwd: Path) -> Measured:
    return run_measured([sys.executable, "-c", code], cwd=cwd, env=os.environ)


def test_the_memory_of_all_processes_counts(tmp_path: Path) -> None:
    alone = python(HOLD, cwd=tmp_path)
    pair = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {HOLD!r}]); {HOLD}; p.wait()"
    both = python(pair, cwd=tmp_path)
    assert 150 * MIB <= alone.peak_bytes <= 200 * MIB
    assert 300 * MIB <= both.peak_bytes <= 400 * MIB


def test_the_processor_time_of_all_processes_counts(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    pair = f"import subprocess, sys\np = subprocess.Popen([sys.executable, '-c', {burn!r}])\n{burn}\np.wait()"
    assert python(burn, cwd=tmp_path).cpu_seconds >= 0.3
    assert python(pair, cwd=tmp_path).cpu_seconds >= 0.6
    assert python("import time; time.sleep(0.5)", cwd=tmp_path).cpu_seconds < 0.3


def test_the_exit_status_is_reported(tmp_path: Path) -> None:
    assert python("raise SystemExit(7)", cwd=tmp_path).status == 7
    assert python("", cwd=tmp_path).status == 0


def test_an_interrupted_wait_ends_the_program_and_its_children(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('new').write_text(f'{os.getpid()} {child.pid}')\n"
        "os.rename('new', 'pids')\n"
        "time.sleep(60)\n"
    )

    def look(number: int, frame: FrameType | None) -> None:
        if (tmp_path / "pids").exists():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    former = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            python(code, cwd=tmp_path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    deadline = time.monotonic() + 10  # the system takes a moment to end a killed process
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
