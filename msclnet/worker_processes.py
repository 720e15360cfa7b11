"""Worker processes: pools that report a worker killed for want of memory, and what the loader's workers need."""

import multiprocessing
import multiprocessing.util
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from msclnet.errors import UserError

PREFETCHED = 4  # batches that each worker of a loader prepares ahead
MIB = 2**20
_LOADER_ERRORS = ("DataLoader worker (pid", "DataLoader timed out", "shared memory", "AF_UNIX path too long")
_DEATH_REPORT_SECONDS = 0.5
# A socket's path has at most 107 characters; multiprocessing appends /pymp-xxxxxxxx/listener-xxxxxxxx.
_LONGEST_SOCKET_FOLDER = 107 - len("/pymp-xxxxxxxx/listener-xxxxxxxx")

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def in_processes(
    job: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    initializer: Callable[[], None] | None = None,
) -> Iterator[Iterator[Result]]:
    """Results of `job` for all items, in their order, made by worker processes that end with the block.

    `job` is a module's function; with one worker or fewer, this process does the work. UserError where a worker died:
    multiprocessing's own pool would wait without end for its result.
    """
    if workers <= 1:
        yield map(job, items)
        return
    # spawn: forked copies of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(initializer,))
    try:
        yield pool.map(job, items)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died, mostly because the memory ran out; free some or set MSCLNET_WORKERS to a "
            "smaller number (1: no worker processes), then start again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def loader_errors_explained() -> Iterator[None]:
    """Turn the death of a process that prepares training batches, or the loss of its batch, into a UserError.

    torch raises a RuntimeError wherever the main process is at that moment; a batch on its way ends as a broken
    connection.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in _LOADER_ERRORS):
            raise
        raise UserError(
            f"a process that prepares batches failed ({_reason(error)}): the memory or the shared memory (/dev/shm) is "
            "used up; start the container with a larger --shm-size, or set MSCLNET_WORKERS to a smaller number (0: no "
            "such processes), then start again: training is resumed from its last checkpoint"
        ) from error


def _reason(error: Exception) -> str:
    if not isinstance(error, RuntimeError):
        try:
            # A connection breaks a moment before the kernel reports the death: wait here, so that torch's RuntimeError
            # is raised inside this handler.
            time.sleep(_DEATH_REPORT_SECONDS)
        except RuntimeError as report:
            error = report
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    # An error of a worker comes with the worker's traceback, whose last line says what happened.
    return lines[-1] if lines[0].startswith("Caught ") else lines[0]


def require_shared_memory(batch_bytes: int, *, workers: int, free: int | None = None) -> None:
    """Raise a UserError if /dev/shm cannot hold the batches which the workers prepare ahead."""
    shared = Path("/dev/shm")
    if free is None:
        free = shutil.disk_usage(shared).free if shared.is_dir() else sys.maxsize
    needed = (workers * PREFETCHED + 1) * batch_bytes
    if needed > free:
        most = max(0, (free // batch_bytes - 1) // PREFETCHED)
        raise UserError(
            f"/dev/shm has {free / MIB:.0f} MiB free, but the batches of {workers} worker processes need "
            f"{needed / MIB:.0f} MiB: start the container with a larger --shm-size, or set MSCLNET_WORKERS to {most}"
        )


def use_short_socket_paths() -> None:
    """Let multiprocessing create its sockets in /tmp where the temporary folder's path is too long for one."""
    if len(tempfile.gettempdir()) <= _LONGEST_SOCKET_FOLDER:
        return
    former, tempfile.tempdir = tempfile.tempdir, "/tmp"
    try:
        multiprocessing.util.get_temp_dir()  # created now, and kept by this process and its children
    except OSError as error:
        raise UserError(
            f"TMPDIR is longer than {_LONGEST_SOCKET_FOLDER} characters, too long for the sockets of worker processes, "
            "and /tmp is not writable: set TMPDIR to a shorter folder, or MSCLNET_WORKERS to 0"
        ) from error
    finally:
        tempfile.tempdir = former


def begin_worker(*_: object) -> None:
    """Set a new worker up: its parent ends it.

    SIGTERM and Ctrl-C reach all processes at once and are ignored here: a worker's death would end the parent in the
    middle of a step, before it could save its state. A connection that an ending parent breaks gets no traceback.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.excepthook = _print_unless_broken_connection


def _print_unless_broken_connection(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, where)


def _begin(initializer: Callable[[], None] | None) -> None:
    begin_worker()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer:
        initializer()


def _end_with_parent() -> None:
    """A worker of ProcessPoolExecutor would outlive a killed parent."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
