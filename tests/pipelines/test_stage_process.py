import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny_project

from msclnet.errors import UserError
from pipelines.orchestration.lines import LineSplitter
from pipelines.orchestration.process_tree import end_tree, tree_of
from pipelines.orchestration.stage_process import StageCancelledError, StageFailedError, run_stage
from pipelines.settings import stage_environment


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    return tiny_project.setup(tmp_path, monkeypatch)


def set_epochs(root: Path, epochs: int) -> None:
    file = root / "params.yaml"
    file.write_text(file.read_text().replace("epochs: 2", f"epochs: {epochs}"))


def run(root: Path, stage: str, **options) -> str:
    lines: list[str] = options.pop("lines", [])
    environment = stage_environment(root, workspace=root)
    return run_stage(root, stage, environment=environment, on_line=lines.append, **options)


def test_a_crash_shows_its_last_lines_and_a_mistake_its_message(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    run(root, "prepare")
    set_epochs(root, 500)
    with pytest.raises(StageFailedError, match=r"(?s)stage train failed \(exit status 1\).*crash at epoch 1"):
        run(root, "train")
    set_epochs(root, 2)
    (root / "params.yaml").write_text(
        (root / "params.yaml").read_text().replace("epochs: 500", "epochs: 404")
    )

    with pytest.raises(UserError) as error:
        run(root, "train")

    assert str(error.value) == "data/raw is missing: run download"
    assert tiny_project.runs(home) == ["prepare", "train 500", "train 404"]


def test_stopping_lets_the_program_save_its_state_and_leaves_no_process(tiny: tuple[Path, Path]) -> None:
    root, home = tiny
    run(root, "prepare")
    set_epochs(root, 999)
    stop, raised = threading.Event(), []

    def train() -> None:
        try:
            run(root, "train", stop=stop)
        except StageCancelledError as error:
            raised.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    tiny_project.wait_for(
        lambda: (home / "pid").exists() and (home / "pid").read_text() != "", what="training"
    )
    stop.set()
    thread.join(30)

    assert len(raised) == 1
    assert (home / "stopped").read_text() == "saved"
    assert not tiny_project.lives(int((home / "pid").read_text()))
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
    tiny_project.wait_for(lambda: pids[1] not in [p.pid for p in tree_of(process)], what="the orphan")
    assert {member.pid for member in tree_of(process)} == {pids[0], pids[2]}

    end_tree(process, grace=0.2, drain=lambda: None)

    assert process.returncode == -signal.SIGKILL
    assert not any(tiny_project.lives(pid) for pid in pids)


class Recorder:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.splitter = LineSplitter(self.lines.append)


def test_lines_are_cut_wherever_the_bytes_are() -> None:
    text = "one\r\ntwo\n\nthree é\n\x1b[31mred\x1b[0m\nlast".encode()
    for size in range(1, len(text)):
        recorder = Recorder()
        for start in range(0, len(text), size):
            recorder.splitter.feed(text[start : start + size], now=0.0)
        recorder.splitter.close()

        assert recorder.lines == ["one", "two", "three é", "red", "last"]


def test_a_progress_bar_is_a_line_every_ten_seconds_and_its_end() -> None:
    recorder = Recorder()
    for second in range(36):
        recorder.splitter.feed(f"\r{second}/36".encode(), now=float(second))
    recorder.splitter.feed(b"\r36/36\nsaved\n", now=36.0)

    assert recorder.lines == ["0/36", "10/36", "20/36", "30/36", "36/36", "saved"]


def test_a_silent_bar_is_passed_on_when_its_time_has_come() -> None:
    recorder = Recorder()
    recorder.splitter.feed(b"\r1/3\r2/3\r", now=0.0)
    recorder.splitter.feed(b" ", now=1.0)
    assert recorder.lines == ["1/3"]

    recorder.splitter.tick(now=9.0)
    assert recorder.lines == ["1/3"]
    recorder.splitter.tick(now=10.0)
    assert recorder.lines == ["1/3", "2/3"]
