"""Runs a stage as a program: validates params.yaml, starts several processes, turns errors into exit codes."""

import ctypes
import errno
import json
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from msclnet.errors import UserError, ran_out_of_memory
from pipelines import settings
from pipelines.console import mask_tracebacks, printable
from pipelines.settings import prepare_process
from pipelines.stages.config import Params, load_params
from pipelines.stages.paths import PARAMS

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

# What the user can do about the operating system's refusals.
REMEDIES = {
    errno.ENOSPC: "no space left; free some (`dvc gc --workspace --all-experiments` removes unused results)",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EACCES: "no permission; make it readable and writable for this user",
    errno.EIO: "the disk reports an input/output error; see the system's log, and work on another disk",
    errno.EROFS: "the file system is read-only; work in a copy of the project on a writable one",
}

DEFECT = 1
USER_MISTAKE = 2
TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT

# A rank whose partner has died gets a RuntimeError. In this time torchrun ends it because of the partner's error.
FIRST_FAILURE_GRACE = 2.0
SECONDS_TO_END = 15  # between SIGTERM and SIGKILL for the ranks
SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)


def run_stage(work: Callable[[Params], None], *, parallel: bool = False) -> None:
    """Run a stage as a program; `parallel`: in MSCLNET_PROCESSES processes, or as one of those of torchrun.

    Exit code 0: done. 2: a mistake that the user can repair, reported in lines that start with `error: `.
    143: stopped by SIGTERM; 130: by Ctrl-C. Anything else: a defect, with its traceback.
    """
    prepare()
    rank = parallel and settings.started_together()
    with rank_errors_recorded() if rank else user_errors_reported():
        params = load_params(PARAMS)
        if parallel and not rank and (processes := settings.read_settings().processes) > 1:
            start_ranks(processes)
        else:
            work(params)


def prepare() -> None:
    """Set the process up: no telemetry, and SIGTERM as an orderly exit."""
    prepare_process()
    signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def user_errors_reported() -> Iterator[None]:
    """Turn a user's mistake into a message and exit code 2, Ctrl-C into exit code 130; secrets are masked."""
    mask_tracebacks()
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        kill_workers()
        message = mistake_in(error)
        if message is None:
            raise
        print(f"error: {printable(message)}", file=sys.stderr)
        raise SystemExit(USER_MISTAKE) from None


def kill_workers() -> None:
    """End what multiprocessing has started: at its exit Python waits for a loader's workers, which ignore SIGTERM."""
    for child in multiprocessing.active_children():
        child.kill()


def mistake_in(error: BaseException) -> str | None:
    """The message for an error that the user can repair; None for a defect."""
    if isinstance(error, UserError):
        return str(error)
    if ran_out_of_memory(error):
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return f"the memory is used up ({reason}); free some, or set MSCLNET_WORKERS to a smaller number"
    if not isinstance(error, OSError):
        return None
    # numpy reports a short write without an error number.
    short_write = error.errno is None and "requested and" in str(error)
    remedy = REMEDIES.get(errno.ENOSPC if short_write else error.errno or 0)
    return None if remedy is None else f"{error.filename or Path.cwd()}: {remedy}"


def _terminate(number: int, frame: FrameType | None) -> None:
    # A second signal must not interrupt what the first one started.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(TERMINATED)


def start_ranks(processes: int) -> None:
    """Run this program in several processes, as torchrun --standalone does; where one fails, all end with its error."""
    os.environ.setdefault(
        "LOGLEVEL", "ERROR"
    )  # of torch's launcher, which reports each signal that it passes on
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, settings.cores() // processes)))
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(variable, "lo")  # the machine's own name need not have an address
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("agent.server.api", "multiprocessing.api"):  # which log each signal that they pass on
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    module = sys.modules["__main__"].__spec__
    program = ["-m", module.name] if module else sys.argv[:1]
    configuration = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"msclnet-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        shutdown_timeout=SECONDS_TO_END,
        signals_to_handle="SIGTERM,SIGINT",
    )
    try:
        elastic_launch(configuration, sys.executable)(*program)
    except SignalException as stop:
        raise SystemExit(128 + stop.sigval) from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise SystemExit(_print_failure(f"rank {rank} of {processes}", failure)) from None


def _print_failure(rank: str, failure: "ProcessFailure") -> int:
    """Print why a rank failed; returns the exit code for it."""
    report: Any = failure.message  # what `record_failure` wrote, or torch's own text
    if isinstance(report, dict) and failure.exitcode == USER_MISTAKE:
        print(f"error: {report['message']} ({rank})", file=sys.stderr)
        return USER_MISTAKE
    if isinstance(report, dict):
        print(report["extraInfo"]["py_callstack"], file=sys.stderr)
        print(f"error: {rank} failed: {report['message']}", file=sys.stderr)
    elif failure.exitcode < 0:
        remedy = "; if memory ran out, use fewer processes" if failure.exitcode == -signal.SIGKILL else ""
        print(f"error: {rank} was ended by {failure.signal_name()}{remedy}", file=sys.stderr)
    else:
        print(f"error: {rank} exited with status {failure.exitcode} and no error message", file=sys.stderr)
    return DEFECT


@contextmanager
def rank_errors_recorded() -> Iterator[None]:
    """Within a process that torchrun has started: its errors go into the file that torchrun reads."""
    # Ask the kernel for SIGTERM when the launcher dies: it may have been killed.
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    try:
        yield
    except KeyboardInterrupt:
        _leave(INTERRUPTED)
    except SystemExit as stop:
        _leave(stop.code if isinstance(stop.code, int) else DEFECT)
    except BaseException as error:
        text = traceback.format_exc()
        try:
            if isinstance(error, RuntimeError):
                time.sleep(FIRST_FAILURE_GRACE)
        except SystemExit as stop:  # ended because of another rank, which has reported why
            _leave(stop.code if isinstance(stop.code, int) else DEFECT)
        _leave(record_failure(error, text))


def record_failure(error: BaseException, text: str) -> int:
    """Write why this rank fails (`text`: the traceback) where torchrun reads it; returns the exit code."""
    mistake = mistake_in(error)
    code = DEFECT if mistake is None else USER_MISTAKE
    message, text = mistake and printable(mistake), printable(text)
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not file:  # started by something else, such as a cluster's operator
        who = f"rank {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}"
        print(text if message is None else f"error: {message} ({who})", file=sys.stderr)
        return code
    report = {
        "message": message or printable(f"{type(error).__name__}: {error}"),
        "extraInfo": {"py_callstack": message or text, "timestamp": str(int(time.time()))},
    }
    Path(file).write_text(json.dumps({"message": report}), encoding="utf-8")
    return code


def _leave(code: int) -> NoReturn:
    # An orderly exit may wait for collective operations that the lost rank never joins.
    kill_workers()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
