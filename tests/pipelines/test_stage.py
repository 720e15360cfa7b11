"""How a stage ends, seen from outside: exit code, and what is on stderr."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from msclnet.errors import UserError
from pipelines.stages.presets import apply_preset
from pipelines.stages.stage import user_errors_reported

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "hunt%23er2x"
ADDRESS = f"https://me:{PASSWORD}@host.example/a.zip"


def start(folder: Path, body: str, *, params: str | None = None) -> subprocess.Popen[str]:
    """A program in `folder` whose stage does `body`, next to a valid params.yaml unless told otherwise."""
    if params is None:
        apply_preset(ROOT, "smoke", target=folder / "params.yaml")
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
    out, err = process.communicate(timeout=900)
    return process.returncode, out, err


def test_done_and_nothing_phones_home(tmp_path: Path) -> None:
    names = ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "NO_ALBUMENTATIONS_UPDATE")
    code, out, err = ended(start(tmp_path, f"print([os.environ.get(name) for name in {names}])"))
    assert (code, out, err) == (0, "working 3\n['true', 'true', '1']\n", "")


def here(monkeypatch: pytest.MonkeyPatch, error: Exception) -> int:
    """Exit code of a program within this process that fails with `error`."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(SystemExit) as caught, user_errors_reported():
        raise error
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError(f"no answer from {ADDRESS}; wait"), "no answer from https://***@host.example/a.zip; wait"),
        (OSError(errno.ENOSPC, "full", ADDRESS), "https://***@host.example/a.zip: no space left"),
        (OSError(errno.ENOSPC, "No space", "data/big.npy"), "data/big.npy: no space left; free some"),
        (OSError(errno.EDQUOT, "Quota", "data/big.npy"), "data/big.npy: the disk quota is used up"),
        (OSError(errno.EACCES, "Denied", "data/raw"), "data/raw: no permission"),
        (OSError(errno.EROFS, "Read-only", "data/raw"), "data/raw: the file system is read-only"),
        (OSError(errno.EIO, "I/O", "data/raw"), "data/raw: the disk reports an input/output error"),
        (OSError(errno.ENOSPC, "No space"), f"{Path.cwd()}: no space left"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "the memory is used up"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "the memory is used up (CUDA out"),
    ],
)
def test_mistakes_of_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    assert here(monkeypatch, error) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert len(printed.splitlines()) == 1


def test_a_device_without_space(tmp_path: Path) -> None:
    code, _, err = ended(start(tmp_path, "open('/dev/full', 'w', buffering=1).write('line\\n')"))
    assert code == 2
    assert "no space left" in err
    assert "Traceback" not in err


def test_defects_keep_their_traceback_without_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIVEN", ADDRESS)
    body = "try:\n    raise KeyError(os.environ['GIVEN'])\nexcept KeyError as e:\n    raise RuntimeError('x') from e"
    code, out, err = ended(start(tmp_path, body))
    assert code == 1
    assert "Traceback (most recent call last)" in err
    assert "RuntimeError: x" in err.splitlines()[-1]
    assert not err.startswith("error: ")
    assert "https://***@host.example" in err
    assert PASSWORD not in out + err


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "missing"), ValueError("x")])
def test_other_errors_are_defects(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    with pytest.raises(type(error)):
        here(monkeypatch, error)


@pytest.mark.parametrize(
    ("params", "message"),
    [("", "params.yaml: no such file"), ("trian: {}\n", "params.yaml is not valid:")],
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
