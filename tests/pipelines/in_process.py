"""Programs of the project, and DVC with its stages, inside the tests' process: the same code without new imports."""

import io
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

STAGE = re.compile(r"python -m (pipelines\.stages\.\w+)$")


@contextmanager
def program(root: Path, environment: Mapping[str, str], arguments: list[str]) -> Iterator[None]:
    """This process as a program's: its folder, variables, arguments and signals; all is put back afterwards."""
    before = os.environ.copy(), Path.cwd(), sys.argv, sys.excepthook
    with ExitStack() as back:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                back.callback(signal.signal, number, signal.getsignal(number))
        else:  # only the main thread may set a handler
            back.enter_context(patch("signal.signal"))
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(root)
        sys.argv = arguments
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before[0])
            os.chdir(before[1])
            sys.argv, sys.excepthook = before[2:]


def run_module(module: str) -> int:
    """Exit status of `python -m module`; the arguments are those in sys.argv."""
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def run_dvc(*arguments: str) -> int:
    """Exit status of `dvc`, whose stages run in this process as well; they write to the present sys.stdout."""
    import dvc.cli
    import dvc.stage.run

    for name in ("dvc", "dvc_objects", "dvc_data"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(sys.stderr if handler.level >= logging.WARNING else sys.stdout)
    os.environ["DVC_TEST"] = "true"  # else it prints JSON past a redirected sys.stdout
    with patch.object(dvc.stage.run, "_run", _run_stage):
        return dvc.cli.main(list(arguments)) or 0


def _run_stage(executable: str, command: str, **how: Any) -> None:
    from dvc.stage.exceptions import StageCmdFailedError

    if not (match := STAGE.match(command)):
        done = subprocess.run([executable, "-c", command], capture_output=True, text=True, **how)
        print(done.stdout + done.stderr, end="")
        code = done.returncode
    else:
        with program(Path(how["cwd"]), how["env"], [match[1]]):
            code = run_module(match[1])
    if code:
        raise StageCmdFailedError(command, code)


def run(command: tuple[str, ...], root: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Exit status, output and errors of `dvc ...` or `python -m module ...`."""
    out, error = io.StringIO(), io.StringIO()
    arguments = list(command) if command[0] == "dvc" else list(command[2:])
    with program(root, environment, arguments), redirect_stdout(out), redirect_stderr(error):
        code = run_dvc(*arguments[1:]) if command[0] == "dvc" else run_module(arguments[0])
    return code, out.getvalue(), error.getvalue()


def run_dvc_here(
    workspace: Path, *arguments: str, environment: Mapping[str, str], log: Any = print, **_: Any
) -> tuple[int, list[str]]:
    """`stage_process.run_dvc` without a process: to be set in its place where no process is the subject."""
    from pipelines.orchestration.stage_process import _HINTS

    code, out, errors = run(("dvc", *arguments), workspace, environment)
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", out + errors) if line.strip()]
    lines = [line for line in lines if not line.strip().startswith(_HINTS)]
    for line in lines:
        log(line)
    return code, lines[-40:]


@contextmanager
def dvc_in_process() -> Iterator[None]:
    """Within this block the orchestration starts no process for DVC."""
    places = ("pipelines.orchestration.stage_process.run_dvc", "pipelines.orchestration.runs.run_dvc")
    with patch(places[0], run_dvc_here), patch(places[1], run_dvc_here):
        yield
