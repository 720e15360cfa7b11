"""Several processes of a stage, seen from outside: how they end together, and what is reported of it once."""

import multiprocessing
import os
import runpy
import signal
import sys
import textwrap
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
import tiny_project

from msclnet.errors import UserError
from pipelines.stages.presets import apply_preset
from pipelines.stages.stage import _print_failure, record_failure

ROOT = Path(__file__).resolve().parents[2]
WORLD = 2


def start(folder: Path, body: str, *, params: str | None = None, meet: bool = False) -> ForkProcess:
    """A stage in several processes; where they `meet`, `body` sees `processes`, and `torch`, which takes seconds."""
    if params is None:
        apply_preset(ROOT, "smoke", target=folder / "params.yaml")
    else:
        (folder / "params.yaml").write_text(params)
    program = f"""
import os, signal, time
from contextlib import nullcontext
from pathlib import Path
from pipelines.stages.stage import run_stage

def connection():
    if not {meet}:
        return nullcontext()
    global torch
    import torch
    from msclnet.distributed import connected

    return connected(device=torch.device("cpu"))

def work(params):
    rank = int(os.environ["RANK"])
    with connection() as processes:
        Path(f"pid-{{rank}}").write_text(f"{{os.getpid()}}\\n")
{textwrap.indent(textwrap.dedent(body), "        ")}

run_stage(work, parallel=True)
"""
    (folder / "stage.py").write_text(program)
    # Forked, for its launcher would import torch; the ranks are new interpreters.
    stage = multiprocessing.get_context("fork").Process(target=launch, args=[folder])
    stage.start()
    return stage


def launch(folder: Path) -> None:
    os.chdir(folder)
    os.environ |= {"PYTHONPATH": str(ROOT), "MSCLNET_PROCESSES": str(WORLD), "OMP_NUM_THREADS": "1"}
    for number, name in enumerate(("stdout", "stderr"), start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
        setattr(sys, name, os.fdopen(number, "w", closefd=False))
    # A test run in the background ignores SIGINT, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["stage.py"]
    runpy.run_path("stage.py", run_name="__main__")


def ended(process: ForkProcess, folder: Path) -> tuple[int | None, str, str]:
    """Exit code and output; no rank is left."""
    process.join(900)
    assert not any(tiny_project.lives(pid) for pid in pids(folder))
    return process.exitcode, (folder / "stdout").read_text(), (folder / "stderr").read_text()


def pids(folder: Path) -> list[int]:
    return [int(file.read_text()) for file in folder.glob("pid-*") if file.read_text().endswith("\n")]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_a_signal_lets_all_end_in_order(tmp_path: Path, number: signal.Signals, code: int) -> None:
    body = """
    try:
        Path(f"ready-{rank}").touch()
        time.sleep(600)
    finally:
        Path(f"saved-{rank}").touch()
    """
    stage = start(tmp_path, body)
    tiny_project.wait_for(lambda: len(list(tmp_path.glob("ready-*"))) == WORLD, what="the ranks")
    os.kill(stage.pid or 0, number)
    assert ended(stage, tmp_path) == (code, "", "")
    assert {file.name for file in tmp_path.glob("saved-*")} == {"saved-0", "saved-1"}


def test_no_rank_outlives_its_launcher(tmp_path: Path) -> None:
    stage = start(tmp_path, "time.sleep(600)")
    tiny_project.wait_for(lambda: len(pids(tmp_path)) == WORLD, what="the ranks")
    ranks = pids(tmp_path)
    stage.kill()
    stage.join(900)
    tiny_project.wait_for(
        lambda: not any(tiny_project.lives(pid) for pid in ranks), what="their end", seconds=900
    )


@pytest.mark.parametrize(
    ("body", "code", "last"),
    [
        (
            "processes.require_same('ab12' if rank else '12ab', description='code')",
            2,
            "error: rank 1 of 2 has other code than rank 0: give all machines the same",
        ),
        (
            "if rank == 0: os.kill(os.getpid(), signal.SIGKILL)",
            1,
            "error: rank 0 of 2 was ended by SIGKILL; if memory ran out, use fewer processes",
        ),
    ],
    ids=["mistake", "killed"],
)
def test_the_first_failure_is_reported_once_and_last(tmp_path: Path, body: str, code: int, last: str) -> None:
    """While the other rank waits for the one that fails: that it has lost a partner is not reported."""
    stage = start(tmp_path, f"{body}\nprocesses.add(torch.zeros(1))", meet=True)
    found, out, err = ended(stage, tmp_path)
    assert (found, out) == (code, "")
    assert err.splitlines()[-1].startswith(last)
    assert err.count("error:") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "status", "printed", "code"),
    [
        (ValueError("a defect"), 1, "the traceback\nerror: rank 1 of 2 failed: ValueError: a defect", 1),
        (UserError("too little"), 2, "error: too little (rank 1 of 2)", 2),
        (None, 7, "error: rank 1 of 2 exited with status 7 and no error message", 1),
    ],
)
def test_what_is_reported_of_a_rank(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception | None,
    status: int,
    printed: str,
    code: int,
) -> None:
    """From the file that the rank leaves for the launcher."""
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    if error:
        assert record_failure(error, "the traceback") == status
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=status, error_file=str(file))
    assert _print_failure("rank 1 of 2", failure) == code
    assert capsys.readouterr().err == f"{printed}\n"


def test_a_mistake_in_params_is_reported_before_anything_is_started(tmp_path: Path) -> None:
    code, out, err = ended(start(tmp_path, "pass", params="trian: {}\n"), tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("error: params.yaml is not valid:")
    assert not pids(tmp_path)


def test_started_by_something_else_each_rank_prints_its_own_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as a cluster's operator, which sets RANK and WORLD_SIZE and reads no error files."""
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert record_failure(OSError(28, "No space", "results/a"), "a traceback") == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: results/a: no space left")
    assert printed.endswith("(rank 3 of 8)\n")
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
