import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import psutil
import pytest
import tiny_project

from msclnet.errors import UserError
from pipelines.orchestration.stage_process import (
    StageCancelledError,
    StageFailedError,
    end_group,
    run_dvc,
    run_stage,
)
from pipelines.settings import stage_environment


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    return tiny_project.setup(tmp_path, monkeypatch, processes=True)


def set_epochs(root: Path, former: int, epochs: int) -> None:
    file = root / "params.yaml"
    file.write_text(file.read_text().replace(f"epochs: {former}", f"epochs: {epochs}"))


def run(root: Path, stage: str, **options) -> str:
    options.setdefault("log", lambda line: None)
    return run_stage(root, stage, environment=stage_environment(root, workspace=root), **options)


def test_a_crash_is_tried_again_and_shows_its_last_lines_and_a_mistake_its_message(
    tiny: tuple[Path, Path],
) -> None:
    root, home = tiny
    with pytest.raises(UserError, match=r"^stage train needs data/prepared, which is not there"):
        run(root, "train")
    assert run(root, "prepare") == "run"
    set_epochs(root, 2, 500)
    with pytest.raises(StageFailedError, match=r"(?s)stage train failed \(exit status 1\).*crash at epoch 1"):
        run(root, "train")
    (home / "crashed").unlink()
    lines: list[str] = []
    assert run(root, "train", retries=1, log=lines.append) == "run"
    assert "stage train failed (exit status 1): trying again" in lines
    set_epochs(root, 500, 404)
    with pytest.raises(UserError, match=r"^data/raw is missing: run download$"):
        run(root, "train", retries=1)

    assert tiny_project.runs(home) == ["prepare", "train 500", "train 500", "train 500", "train 404"]


def test_stopping_lets_the_program_save_its_state_and_leaves_no_process(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    run(root, "prepare")
    set_epochs(root, 2, 999)
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run, root, "train", stop=stop)
        pid = home / "pid"
        tiny_project.wait_for(lambda: pid.exists() and pid.read_text() != "", what="training")
        stop.set()
        with pytest.raises(StageCancelledError):
            future.result(900)

    assert (home / "stopped").read_text() == "saved"
    assert not tiny_project.lives(int(pid.read_text()))
    assert "train:" not in (root / "dvc.lock").read_text()


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] != "0":
    child = subprocess.Popen([sys.executable, __file__, str(int(sys.argv[1]) - 1), sys.argv[2]])
open(f"{sys.argv[2]}/{sys.argv[1]}", "w").write(str(os.getpid()))
time.sleep(600)
"""


def test_what_ignores_sigterm_is_killed_orphans_included(tmp_path: Path) -> None:
    script = tmp_path / "stubborn.py"
    script.write_text(STUBBORN)
    process = subprocess.Popen([sys.executable, str(script), "2", str(tmp_path)], start_new_session=True)
    files = [tmp_path / name for name in "210"]
    tiny_project.wait_for(lambda: all(f.exists() and f.read_text() for f in files), what="three processes")
    pids = [int(file.read_text()) for file in files]
    os.kill(pids[1], signal.SIGKILL)  # its child is an orphan now
    tiny_project.wait_for(lambda: psutil.Process(pids[2]).ppid() != pids[1], what="the orphan")

    end_group(process, grace=0.2)

    assert process.returncode == -signal.SIGKILL
    assert not any(tiny_project.lives(pid) for pid in pids)


LINES = r"""
import sys
print("one\r\ntwo\n\nthree \u00e9\n\x1b[31mred\x1b[0m\n10%\r20%\rlast", end="")
sys.stdout.flush()
sys.stdout.buffer.write(b" \xff")
"""


def test_output_comes_in_lines_without_terminal_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.py").write_text(LINES)
    lines: list[str] = []
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONIOENCODING": "utf-8"}
    code, tail = run_dvc(tmp_path, "status", environment=environment, log=lines.append)

    assert (code, tail) == (0, lines)
    assert lines == ["one", "two", "three é", "red", "10%", "20%", "last \ufffd"]
