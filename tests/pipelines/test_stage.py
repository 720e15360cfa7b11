"""How a stage ends, seen from outside: exit code, and what is on stderr."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from msclnet.errors import UserError
from pipelines.stages.stage import report_user_errors

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, body: str, *, params: str | None = None) -> subprocess.Popen[str]:
    """A program in `folder` whose stage does `body`, beside a valid params.yaml unless told otherwise."""
    if params is None:
        shutil.copy(ROOT / "presets/smoke.yaml", folder / "params.yaml")
    elif params:
        (folder / "params.yaml").write_text(params, encoding="utf-8")
    program = f"""
import errno, os, signal, sys, time
from msclnet.errors import UserError
from pipelines.stages.stage import run_stage

def work(params):
    print("working", params.train.epochs, flush=True)
{textwrap.indent(textwrap.dedent(body), "    ")}

run_stage(work)
"""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # A test run in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_done(tmp_path: Path) -> None:
    assert ended(start(tmp_path, "pass")) == (0, "working 3\n", "")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise UserError('train.epochs is wrong; make it right')", "train.epochs is wrong; make it right"),
        ("raise OSError(errno.ENOSPC, 'No space', 'data/big.npy')", "data/big.npy: no space left; free some"),
        ("raise OSError(errno.EDQUOT, 'Quota', 'data/big.npy')", "data/big.npy: the disk quota is used up"),
        ("raise OSError(errno.EACCES, 'Denied', 'data/raw')", "data/raw: no permission"),
        ("raise OSError(errno.EROFS, 'Read-only', 'data/raw')", "data/raw: the file system is read-only"),
        ("raise OSError(errno.EIO, 'I/O', 'data/raw')", "data/raw: the disk reports an input/output error"),
    ],
)
def test_mistakes_of_the_user(tmp_path: Path, body: str, message: str) -> None:
    code, _, err = ended(start(tmp_path, body))
    assert code == 2
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1


def test_a_full_disk_without_a_name_tells_the_folder(tmp_path: Path) -> None:
    code, _, err = ended(start(tmp_path, "raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))"))
    assert code == 2
    assert err.startswith(f"error: {tmp_path.resolve()}: no space left")


@pytest.mark.parametrize("device", ["/dev/full"])
def test_a_device_without_space(tmp_path: Path, device: str) -> None:
    code, _, err = ended(start(tmp_path, f"open({device!r}, 'w', buffering=1).write('line\\n')"))
    assert code == 2
    assert "no space left" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("open('missing')", "FileNotFoundError"),
        ("raise ValueError('x')", "ValueError"),
    ],
)
def test_defects_keep_their_traceback(tmp_path: Path, body: str, name: str) -> None:
    code, _, err = ended(start(tmp_path, body))
    assert code == 1
    assert "Traceback (most recent call last)" in err
    assert name in err.splitlines()[-1]
    assert not err.startswith("error: ")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("", "params.yaml: no such file"),
        ("train: [1\n", "params.yaml is no valid YAML"),
        ("trian: {}\n", "params.yaml is not valid:"),
    ],
)
def test_params_are_checked_before_any_work(tmp_path: Path, params: str, message: str) -> None:
    code, out, err = ended(start(tmp_path, "pass", params=params))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert "Traceback" not in err


SLEEP = """
try:
    print("asleep", flush=True)
    time.sleep(60)
finally:
    print("cleaned up", flush=True)
"""


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_from_outside(tmp_path: Path, number: int, expected: int) -> None:
    process = start(tmp_path, SLEEP)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["working 3\n", "asleep\n"]
    process.send_signal(number)
    code, out, err = ended(process)
    assert code == expected
    assert out == "cleaned up\n"
    assert err == ""


def test_a_second_signal_does_not_disturb_the_cleaning(tmp_path: Path) -> None:
    body = """
    try:
        print("asleep", flush=True)
        time.sleep(60)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        print("cleaned up", flush=True)
    """
    process = start(tmp_path, body)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["working 3\n", "asleep\n"]
    process.send_signal(signal.SIGTERM)
    assert ended(process)[:2] == (143, "cleaned up\n")


def test_nothing_phones_home(tmp_path: Path) -> None:
    names = ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "NO_ALBUMENTATIONS_UPDATE")
    code, out, _ = ended(start(tmp_path, f"print([os.environ.get(name) for name in {names}])"))
    assert code == 0
    assert out.splitlines()[1] == "['true', 'true', '1']"


def test_the_same_within_a_process(capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken() -> None:
        raise UserError("x: wrong; put it right")

    with pytest.raises(SystemExit) as caught:
        report_user_errors(mistaken)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: x: wrong; put it right\n"


def test_a_worker_that_ignores_sigterm_holds_no_failed_stage_up(tmp_path: Path) -> None:
    """As the loader's workers do, which are left where the memory ends while a loader is set up."""
    body = """
    import multiprocessing

    def wait():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)

    multiprocessing.get_context("fork").Process(target=wait, daemon=True).start()
    time.sleep(0.5)
    raise MemoryError
    """
    code, _, err = ended(start(tmp_path, body))
    assert code == 2
    assert err.startswith("error: the memory is used up (MemoryError)")
