"""How a run's process ends, and what that means for the run's status."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Status = Literal["FINISHED", "FAILED", "KILLED"]

_STOPPED_FROM_OUTSIDE = (128 + signal.SIGTERM, 128 + signal.SIGINT)


@contextmanager
def lifetime(finish: Callable[[Status], None]) -> Iterator[None]:
    """Calls `finish` once the block has ended, in whatever way.

    SIGTERM and Ctrl-C mean KILLED, other exceptions FAILED, and a plain exit FINISHED. Within the block
    SIGTERM raises SystemExit(143), unless the program already handles that signal; a handler that exits with
    143 or 130 means KILLED as well.

    Args:
        finish: Told the status; exceptions then go on their way.
    """
    former = signal.getsignal(signal.SIGTERM)
    ours = threading.current_thread() is threading.main_thread() and former is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _raise_exit)
    status: Status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except SystemExit as stop:
        if stop.code in _STOPPED_FROM_OUTSIDE:
            status = "KILLED"
        elif stop.code in (None, 0):
            status = "FINISHED"
        raise
    finally:
        if ours:  # a second SIGTERM must not cut off the report of the first
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        finish(status)
        if ours:
            signal.signal(signal.SIGTERM, former)


def _raise_exit(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)
