"""What every stage does around its work: validate all of params.yaml first, end with a clear word."""

import errno
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from msclnet.errors import UserError
from pipelines.console import mask_tracebacks, tellable
from pipelines.settings import prepare_process
from pipelines.stages.config import Params, load_params
from pipelines.stages.paths import PARAMS

# What the user can do about the operating system's refusals.
REMEDIES = {
    errno.ENOSPC: "no space left; free some (`dvc gc --workspace --all-experiments` removes unused results)",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EACCES: "no permission; make it readable and writable for this user",
    errno.EIO: "the disk reports an input/output error; see the system's log, and work on another disk",
    errno.EROFS: "the file system is read-only; work in a copy of the project on a writable one",
}

USER_MISTAKE = 2
TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT


def run_stage(work: Callable[[Params], None]) -> None:
    """Run a stage as a program.

    Exit code 0: done. 2: a mistake that the user can repair, told in lines that start with `error: `.
    143: stopped by SIGTERM; 130: by Ctrl-C. Anything else: a defect, with its traceback.
    """
    prepare()
    report_user_errors(lambda: work(load_params(PARAMS)))


def prepare() -> None:
    """What a stage's process needs before it does anything: libraries that stay quiet, and SIGTERM as an exit."""
    prepare_process()
    signal.signal(signal.SIGTERM, _terminate)


def report_user_errors(work: Callable[[], None]) -> None:
    """Run `work`; a UserError, a full disk or a missing permission becomes a message and exit code 2.

    Ctrl-C becomes exit code 130. No secret is shown, neither in a message nor in a defect's traceback.
    """
    mask_tracebacks()
    try:
        work()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except (UserError, OSError) as error:
        message = mistake_in(error)
        if message is None:
            raise
        fail(message)


def mistake_in(error: BaseException) -> str | None:
    """What to tell the user who can repair this; None for a defect."""
    if isinstance(error, UserError):
        return str(error)
    if not isinstance(error, OSError):
        return None
    # numpy tells a short write without an error number.
    short_write = error.errno is None and "requested and" in str(error)
    remedy = REMEDIES.get(errno.ENOSPC if short_write else error.errno or 0)
    return None if remedy is None else f"{error.filename or Path.cwd()}: {remedy}"


def fail(message: str) -> None:
    """Print a user's mistake and end."""
    print(f"error: {tellable(message)}", file=sys.stderr)
    raise SystemExit(USER_MISTAKE)


def _terminate(number: int, frame: FrameType | None) -> None:
    # A second signal must not interrupt what the first one set going.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(TERMINATED)
