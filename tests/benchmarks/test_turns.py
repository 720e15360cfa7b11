"""Interleaved timing, by a clock that the ways themselves move."""

import math
from collections.abc import Callable

import pytest

from benchmarks.core.turns import LEAST_SECONDS, Timings, in_turns


class Clock:
    """Stands still but when a way takes its time; remembers who ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def __call__(self) -> float:
        return self.now

    def way(self, name: str, *seconds: float) -> Callable[[], None]:
        """One that takes these seconds, call by call, and the last of them from then on."""
        left = list(seconds)

        def run() -> None:
            self.ran.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_ways_run_in_turns_and_every_second_turn_backwards() -> None:
    clock = Clock()
    ways = {name: clock.way(name, 1.0) for name in "abc"}
    in_turns(ways, turns=3, clock=clock)
    assert "".join(clock.ran) == "abc" + "abc" + "cba" + "abc"
    clock.ran.clear()
    in_turns(ways, turns=1, warm=True, clock=clock)
    assert "".join(clock.ran) == "abc"


def test_each_turn_gives_one_value() -> None:
    clock = Clock()
    ways = {"a": clock.way("a", 100.0, 1.0, 2.0, 6.0), "b": clock.way("b", 100.0, 3.0, 2.0, 12.0)}
    timings = in_turns(ways, turns=3, clock=clock)
    assert timings.seconds == {"a": [1, 2, 6], "b": [3, 2, 12]}


def test_quick_ways_are_repeated_and_averaged() -> None:
    clock = Clock()
    timings = in_turns({"quick": clock.way("quick", 1.0, 1 / 64)}, turns=2, clock=clock)
    assert timings.seconds["quick"] == [1 / 64] * 2
    calls = math.ceil(64 * LEAST_SECONDS)
    assert len(clock.ran) == 1 + 2 * calls


def test_a_device_that_works_on_is_waited_for() -> None:
    clock = Clock()
    behind = 0.0

    def launch() -> None:
        nonlocal behind
        behind += 2.0

    def synchronise() -> None:
        nonlocal behind
        clock.now += behind
        behind = 0.0

    timings = in_turns({"a": launch}, turns=2, synchronise=synchronise, clock=clock)
    assert timings.seconds == {"a": [2, 2]}


@pytest.mark.parametrize(("budget", "turns"), [(0.0, 1), (24.9, 1), (30.0, 2), (49.0, 3), (1e9, 5)])
def test_no_turn_starts_that_would_not_end_within_the_budget(budget: float, turns: int) -> None:
    clock = Clock()
    timings = in_turns(
        {"a": clock.way("a", 4.0), "b": clock.way("b", 6.0)}, turns=5, budget=budget, clock=clock
    )
    assert len(timings.seconds["a"]) == len(timings.seconds["b"]) == turns


def test_medians_quartiles_and_ratios() -> None:
    # a slow moment of the machine in the second turn doubles both: the ratio does not see it
    timings = Timings({"slow": [8, 16, 8, 9, 8], "quick": [2, 4, 2, 3, 1]})
    assert timings.median("slow") == 8
    assert timings.quartiles("quick") == (2, 3)
    assert timings.times("quick", "slow") == 4  # of 4, 4, 4, 3, 8
    assert timings.times("slow", "quick") == 1 / 4
    assert timings.times("slow", "slow") == 1
    assert timings.share("slow", [4, 8, 4, 9, 2]) == 0.5  # of 0.5, 0.5, 0.5, 1, 0.25
    assert Timings({"once": [3.0]}).quartiles("once") == (3, 3)
