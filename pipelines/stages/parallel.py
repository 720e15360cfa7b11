"""A stage that runs in as many processes as MSCLNET_PROCESSES says, or in those that torchrun has started."""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pipelines import settings
from pipelines.console import tellable
from pipelines.stages.config import Params, load_params
from pipelines.stages.launch import DEFECT, launch
from pipelines.stages.paths import PARAMS
from pipelines.stages.stage import USER_MISTAKE, mistake_in, prepare, run_stage

if TYPE_CHECKING:
    from msclnet.distributed import Processes

# A process that has lost another one gets a RuntimeError. Meanwhile whoever has started both sees which one it lost.
SECONDS_FOR_THE_CULPRIT = 2.0

SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)

Work = Callable[[Params, "Processes"], None]


def run_parallel_stage(work: Work, command: Sequence[str]) -> None:
    """Run a stage as a program, in one process or several.

    Exit codes as with `run_stage`; of several processes the first failure counts.

    Args:
        work: The stage.
        command: What follows `python` to run this very program.
    """

    def alone_or_several(params: Params) -> None:
        processes = settings.processes()
        if processes == 1:
            from msclnet.distributed import ALONE

            work(params, ALONE)
        else:
            launch(command, processes=processes)

    if settings.started_together():
        _run_among_others(work)
    else:
        run_stage(alone_or_several)


def _run_among_others(work: Work) -> None:
    prepare()
    die_with_parent()
    code = DEFECT
    try:
        params = load_params(PARAMS)
        from msclnet.distributed import connected

        with connected(device=settings.device()) as processes:
            work(params, processes)
        return
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else DEFECT
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BaseException as error:
        code = _record_patiently(error)
    _leave(code)


def die_with_parent() -> None:
    """Let the system send us SIGTERM when whoever started us is gone: killed, he could not end us himself."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _record_patiently(error: BaseException) -> int:
    text = traceback.format_exc()
    try:
        if isinstance(error, RuntimeError):
            time.sleep(SECONDS_FOR_THE_CULPRIT)
    except SystemExit as stop:  # ended because of the other one, who has told why
        return stop.code if isinstance(stop.code, int) else DEFECT
    return record_failure(error, text)


def record_failure(error: BaseException, text: str) -> int:
    """Tell why this process fails, in the form that torchrun reads; returns the exit code for it.

    Args:
        error: Why.
        text: Its traceback.
    """
    mistake = mistake_in(error)
    code = DEFECT if mistake is None else USER_MISTAKE
    message, text = mistake and tellable(mistake), tellable(text)
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not file:  # started by neither torchrun nor `launch`
        who = f"rank {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}"
        print(text if message is None else f"error: {message} ({who})", file=sys.stderr)
        return code
    told = {
        "message": message or tellable(f"{type(error).__name__}: {error}"),
        "extraInfo": {"py_callstack": message or text, "timestamp": str(int(time.time()))},
    }
    Path(file).write_text(json.dumps({"message": told}), encoding="utf-8")
    return code


def _leave(code: int) -> NoReturn:
    # An orderly exit may wait for collective operations that the lost process never joins.
    for child in multiprocessing.active_children():
        child.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
