"""Several processes of a stage, seen from outside: how they end together, and what is said of it once."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tiny_project
from forked import Forked

import pipelines.stages.launch
from pipelines.stages.parallel import record_failure
from pipelines.stages.presets import apply_preset
from pipelines.stages.stage import prepare

ROOT = Path(__file__).resolve().parents[2]
WORLD = 2


class Ended:
    """How a launcher ended.

    Attributes:
        code: Its exit code.
        out: What it and its processes printed.
        err: The same on stderr.
    """

    def __init__(self, folder: Path, code: int) -> None:
        self.code = code
        self.out, self.err = ((folder / name).read_text() for name in ("out", "err"))
        pids = [int(file.read_text()) for file in folder.glob("pid-*")]
        assert len(pids) == WORLD
        assert not any(tiny_project.lives(pid) for pid in pids)


def redirect(folder: Path) -> None:
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))


def wait_for_processes(folder: Path) -> list[int]:
    files = [folder / f"pid-{rank}" for rank in range(WORLD)]
    tiny_project.wait_for(
        lambda: all(f.exists() and f.read_text().endswith("\n") for f in files), what="the processes"
    )
    return [int(f.read_text()) for f in files]


PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from pipelines.stages.parallel import die_with_parent
from pipelines.stages.stage import prepare

prepare()
die_with_parent()
rank = int(os.environ["RANK"])
Path(f"pid-{rank}").write_text(f"{os.getpid()}\\n")
"""


def start(folder: Path, body: str) -> Forked:
    """A launcher of quick programs, which know nothing of torch."""
    (folder / "program.py").write_text(PROGRAM + textwrap.dedent(body))

    def work(_: Forked) -> None:
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(ROOT)
        redirect(folder)
        signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # ignored where the tests run in the background
        prepare()
        pipelines.stages.launch.SECONDS_TO_NOTICE = 1.0
        try:
            pipelines.stages.launch.launch(["program.py"], processes=WORLD)
        except SystemExit as stop:
            os._exit(int(str(stop.code)))

    return Forked(work)


def test_done(tmp_path: Path) -> None:
    body = """
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    print(*(os.environ[name] for name in names), flush=True)
    """
    ended = Ended(tmp_path, start(tmp_path, body).wait())
    assert (ended.code, ended.err) == (0, "")
    assert sorted(ended.out.splitlines()) == ["0 0 2 2 127.0.0.1", "1 1 2 2 127.0.0.1"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_a_signal_lets_all_end_in_order(tmp_path: Path, number: signal.Signals, code: int) -> None:
    body = """
    try:
        time.sleep(600)
    finally:
        time.sleep(0.5)  # whatever is to be saved
        Path(f"saved-{rank}").touch()
    """
    launcher = start(tmp_path, body)
    wait_for_processes(tmp_path)
    os.kill(launcher.pid, number)
    assert Ended(tmp_path, launcher.wait()).code == code
    assert {file.name for file in tmp_path.glob("saved-*")} == {"saved-0", "saved-1"}


def test_a_process_that_fails_in_silence(tmp_path: Path) -> None:
    """The other one, which would sleep, has some seconds to notice and is then ended."""
    body = """
    if rank == 1:
        os._exit(7)
    time.sleep(600)
    """
    ended = Ended(tmp_path, start(tmp_path, body).wait())
    assert ended.code == 1
    assert ended.err == "error: rank 1 of 2 ended with exit status 7 without a word\n"


def test_no_process_outlives_its_launcher(tmp_path: Path) -> None:
    launcher = start(tmp_path, "time.sleep(600)")
    pids = wait_for_processes(tmp_path)
    launcher.kill()
    tiny_project.wait_for(lambda: not any(tiny_project.lives(pid) for pid in pids), what="their end")


def run(folder: Path, body: str, *, params: str | None = None) -> tuple[int, str, str]:
    """A whole stage in several processes, which meet; `body` sees `params` and `processes`."""
    if params is None:
        apply_preset(ROOT, "smoke", target=folder / "params.yaml")
    else:
        (folder / "params.yaml").write_text(params)
    program = f"""
import os, signal
from pipelines.stages.parallel import run_parallel_stage

def work(params, processes):
    import torch
{textwrap.indent(textwrap.dedent(body), "    ")}
    print("done", processes.rank)

run_parallel_stage(work, ["stage.py"])
"""
    (folder / "stage.py").write_text(program)
    variables = {"PYTHONPATH": str(ROOT), "MSCLNET_PROCESSES": str(WORLD), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "stage.py"],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def test_one_process_raises_while_the_other_waits_for_it(tmp_path: Path) -> None:
    """That the other one has lost it is no news."""
    body = """
    if processes.rank == 1:
        raise ValueError("a defect")
    processes.add(torch.zeros(1))
    """
    code, out, err = run(tmp_path, body)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "error: rank 1 of 2 failed: ValueError: a defect"
    assert err.count("Traceback") == 1
    assert err.count("error:") == 1


def test_a_mistake_that_all_notice_is_told_once(tmp_path: Path) -> None:
    body = "processes.require_same('ab12' if processes.rank else '12ab', what='code')"
    code, out, err = run(tmp_path, body)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("error: rank 1 of 2 has other code than rank 0: ")


def test_one_process_is_killed(tmp_path: Path) -> None:
    body = """
    if processes.rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    processes.add(torch.zeros(1))
    """
    words = "error: rank 0 of 2 was ended by SIGKILL; if memory ran out, take fewer processes\n"
    assert run(tmp_path, body) == (1, "", words)


def test_a_mistake_in_params_is_told_before_anything_is_started(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, "pass", params="trian: {}\n")
    assert (code, out) == (2, "")
    assert err.startswith("error: params.yaml is not valid:")


def test_started_by_something_else_each_process_speaks_for_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as a cluster's operator, which sets RANK and WORLD_SIZE and reads no error files."""
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert record_failure(OSError(28, "No space", "results/a"), "a traceback") == 2
    told = capsys.readouterr().err
    assert told.startswith("error: results/a: no space left")
    assert told.endswith("(rank 3 of 8)\n")
    assert record_failure(ValueError("x"), "a traceback") == 1
    assert capsys.readouterr().err == "a traceback\n"


def test_no_secret_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    for error in (
        ValueError("http://anna:s3cret@tracker/"),
        OSError(28, "full", "http://anna:s3cret@tracker/"),
    ):
        record_failure(error, f"a traceback of {error}")
        assert "tracker" in file.read_text()
        assert "s3cret" not in file.read_text()
