"""Worker processes that may die: killed for want of memory, most of the time."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

from msclnet.errors import UserError

_DEAD_WORKER = "DataLoader worker (pid"
_SECONDS_FOR_THE_NEWS = 0.5

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

    multiprocessing's own pool waits for ever for what a killed worker had begun.

    Args:
        job: A function of a module; it, the items and the results travel between processes.
        items: All are taken at once.
        workers: Number of processes; with 1 or less, this process does the work.
        initializer: Called first in each worker process.

    Raises:
        UserError: A worker died.
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
def dead_workers_explained() -> Iterator[None]:
    """Turns the death of a process that prepares training batches into a UserError.

    torch tells it as a RuntimeError, wherever the main process is at that moment; a batch that was on its way ends
    as a broken connection.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith(_DEAD_WORKER):
            raise
        reason = _what_torch_says(error)
        raise UserError(
            f"a process that prepares batches died ({reason}): mostly the memory ran out, or "
            "the shared memory (/dev/shm) of a container is too small; give it more or set MSCLNET_WORKERS to a "
            "smaller number (0: no such processes), then start again: training goes on from its last checkpoint"
        ) from error


def _what_torch_says(error: Exception) -> str:
    if not isinstance(error, RuntimeError):
        try:
            # A connection breaks a moment before the kernel tells of the death. torch's word on it must not come
            # when somebody else is at work.
            time.sleep(_SECONDS_FOR_THE_NEWS)
        except RuntimeError as news:
            error = news
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def begin_worker(*_: object) -> None:
    """For a new worker: its parent says when it ends.

    SIGTERM and Ctrl-C reach all processes at once and are ignored here: a worker's death would end the parent in the
    middle of a step, before it could save its state. What a parent that ends breaks off is not worth a traceback.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.excepthook = _tell_all_but_broken_connections


def _tell_all_but_broken_connections(
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
