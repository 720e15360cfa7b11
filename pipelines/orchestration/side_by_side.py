"""Many pieces of work, N at a time: a failing one is noted and the rest goes on."""

import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Generic, TypeVar

from msclnet.errors import UserError
from pipelines.orchestration.process_tree import sigterm_raises
from pipelines.orchestration.stage_process import GRACE_SECONDS

Piece = TypeVar("Piece")
Result = TypeVar("Result")

# What has to end within the 30 s after which Prefect kills a cancelled run.
_END_SECONDS = GRACE_SECONDS + 8.0


@dataclass(frozen=True)
class Outcome(Generic[Piece, Result]):
    """How one piece of work ended: with a result, or with an error.

    Attributes:
        piece: what was to be done.
        result: what came out, or None after an error.
        error: why there is no result.
        seconds: the time it took.
    """

    piece: Piece
    result: Result | None
    error: BaseException | None
    seconds: float


def run_side_by_side(
    pieces: Sequence[Piece],
    run: Callable[[Piece, Event], Result],
    *,
    parallel: int = 1,
    on_end: Callable[[Outcome[Piece, Result]], None] | None = None,
) -> list[Outcome[Piece, Result]]:
    """Run a function on each piece, in threads that see this thread's context variables.

    Whatever ends the call early (Ctrl-C, SIGTERM, a cancelled flow run) sets the event that every call has been given
    and waits for those under way to end; no further piece is begun.

    Args:
        pieces: what is to be done, in this order.
        run: called with a piece and the event that tells it to stop; what it raises is the piece's error.
        parallel: how many at a time.
        on_end: called in this thread with each outcome as it comes.

    Returns:
        One outcome a piece, in the order of the pieces.

    Raises:
        UserError: `parallel` is less than 1.
    """
    if parallel < 1:
        raise UserError(f"parallel is {parallel}: give the number of runs at a time, 1 or more")
    waiting: SimpleQueue[tuple[int, Piece]] = SimpleQueue()
    ended: SimpleQueue[tuple[int, Outcome[Piece, Result]]] = SimpleQueue()
    for numbered in enumerate(pieces):
        waiting.put(numbered)
    stop = Event()

    def work() -> None:
        while not stop.is_set():
            try:
                number, piece = waiting.get_nowait()
            except Empty:
                return
            ended.put((number, _attempt(piece, run, stop)))

    # Daemons: one that waits for a lock of another program, which nothing can interrupt, must not keep this one alive.
    threads = [
        Thread(target=copy_context().run, args=(work,), daemon=True)
        for _ in range(min(parallel, len(pieces)))
    ]
    outcomes: dict[int, Outcome[Piece, Result]] = {}
    with sigterm_raises():
        try:
            for thread in threads:
                thread.start()
            while len(outcomes) < len(pieces):
                number, outcome = ended.get()
                outcomes[number] = outcome
                if on_end is not None:
                    on_end(outcome)
        except BaseException:
            stop.set()
            deadline = time.monotonic() + _END_SECONDS
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))
            raise
    return [outcomes[number] for number in range(len(pieces))]


def _attempt(piece: Piece, run: Callable[[Piece, Event], Result], stop: Event) -> Outcome[Piece, Result]:
    started = time.monotonic()
    try:
        result, error = run(piece, stop), None
    except BaseException as raised:  # or the caller would wait for this outcome for ever
        result, error = None, raised
    return Outcome(piece=piece, result=result, error=error, seconds=time.monotonic() - started)
