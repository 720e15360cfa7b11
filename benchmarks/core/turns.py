"""Interleaved timing: all ways of doing a thing run in turns, so that a busy moment of the machine hits them all."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

LEAST_SECONDS = 0.1  # of a way in one turn; quicker ones are repeated until they have taken as long


@dataclass(frozen=True)
class Timings:
    """Seconds of each way, one value a turn.

    Attributes:
        seconds: By way; the i-th value of each was measured in the i-th turn.
    """

    seconds: Mapping[str, list[float]]

    def median(self, way: str) -> float:
        """Seconds."""
        return statistics.median(self.seconds[way])

    def quartiles(self, way: str) -> tuple[float, float]:
        """First and third quartile in seconds, both inclusive; of one turn both are its value."""
        values = self.seconds[way]
        if len(values) == 1:
            return values[0], values[0]
        first, _, third = statistics.quantiles(values, n=4, method="inclusive")
        return first, third

    def times(self, way: str, reference: str) -> float:
        """How many times as fast a way is as the reference: the median over the turns of the ratio within a turn."""
        return self.share(way, self.seconds[reference])

    def share(self, way: str, ideal: Sequence[float]) -> float:
        """Which share of its time a way would take at best: the median over the turns.

        Args:
            way: Its name.
            ideal: Seconds at best, one value a turn.
        """
        return statistics.median(best / taken for best, taken in zip(ideal, self.seconds[way], strict=True))


def in_turns(
    ways: Mapping[str, Callable[[], object]],
    *,
    turns: int,
    warm: bool = False,
    budget: float = float("inf"),
    synchronise: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Time all ways in turns; every second turn goes through them in the opposite order.

    Args:
        ways: What to time, by name.
        turns: At most this many, at least 1.
        warm: Whether all have run before; otherwise each runs once, untimed.
        budget: Seconds after which no further turn starts, the untimed one included; one turn always runs.
        synchronise: Waits for what a way has set going on another device.
        clock: Seconds.
    """
    started = clock()
    for way in () if warm else ways.values():
        way()
    synchronise()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        before = clock()
        for name in list(ways) if turn % 2 == 0 else reversed(list(ways)):
            seconds[name].append(_seconds(ways[name], synchronise, clock))
        now = clock()
        if now - started + (now - before) > budget:
            break
    return Timings(seconds)


def _seconds(way: Callable[[], object], synchronise: Callable[[], None], clock: Callable[[], float]) -> float:
    calls, start = 0, clock()
    while True:
        way()
        synchronise()
        calls += 1
        taken = clock() - start
        if taken >= LEAST_SECONDS:
            return taken / calls
