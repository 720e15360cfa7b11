"""Interleaved timing by a clock that the ways themselves move; limits, exponents and functions in another process."""

import math
import os
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F
from counting import counting
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import timing
from benchmarks.tables import measured_row, network_row
from benchmarks.timing import (
    LEAST_SECONDS,
    Timings,
    count_operations,
    elsewhere,
    exponent,
    ideal_seconds,
    in_turns,
    product_rates,
    product_ways,
    reading_seconds,
)
from msclnet.precision import native_bf16


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


def test_each_turn_gives_one_value_and_quick_ways_are_repeated_and_averaged() -> None:
    clock = Clock()
    ways = {"a": clock.way("a", 100.0, 1.0, 2.0, 6.0), "b": clock.way("b", 100.0, 3.0, 2.0, 12.0)}
    assert in_turns(ways, turns=3, clock=clock).seconds == {"a": [1, 2, 6], "b": [3, 2, 12]}
    clock.ran.clear()
    timings = in_turns({"quick": clock.way("quick", 1.0, 1 / 64)}, turns=2, clock=clock)
    assert timings.seconds["quick"] == [1 / 64] * 2
    assert len(clock.ran) == 1 + 2 * math.ceil(64 * LEAST_SECONDS)


def test_a_device_that_works_on_is_waited_for() -> None:
    clock, behind = Clock(), [0.0]

    def synchronise() -> None:
        clock.now += behind.pop()
        behind.append(0.0)

    def launch() -> None:
        behind[0] += 2.0

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


CPU = torch.device("cpu")
PRODUCT = 2 * 2048**3


def test_the_fastest_library_on_the_whole_is_the_limit() -> None:
    timings = Timings(
        {"limit fp32 torch": [4, 4, 1], "limit fp32 numpy": [2, 3, 2], "limit bf16 torch": [1, 1, 1]}
    )
    assert product_rates(timings, "fp32", CPU) == [PRODUCT / 2, PRODUCT / 3, PRODUCT / 2]
    assert product_rates(timings, "bf16", CPU) == [PRODUCT] * 3
    timings = Timings({"limit reading torch": [1, 4], "limit reading numpy": [2, 2]})
    assert reading_seconds(timings, timing.BYTES / 2) == [1, 1]


def test_work_of_two_precisions_takes_the_sum_of_their_times() -> None:
    rates = {"fp32": [10.0, 5.0], "bf16": [40.0, 20.0]}
    assert ideal_seconds({"fp32": 20.0, "bf16": 80.0}, rates) == [4, 8]
    assert ideal_seconds({"bf16": 80.0}, rates) == [2, 4]


def test_products_have_the_size_that_the_rate_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(timing.SIDE, "cpu", 64)
    for precision in ("fp32", "bf16") if native_bf16(CPU) else ("fp32",):
        way = product_ways(precision, CPU)[f"limit {precision} torch"]
        with FlopCounterMode(display=False) as counter:
            way()
        assert counter.get_total_flops() == 2 * 64**3
        for other in product_ways(precision, CPU).values():
            other()


def test_operations_are_those_of_convolutions_and_of_everything_else() -> None:
    images, kernel, weight = torch.ones(2, 3, 8, 8), torch.ones(5, 3, 1, 1), torch.ones(7, 5)

    def work() -> None:
        F.linear(F.conv2d(images, kernel).mean(dim=(2, 3)), weight)

    convolution, product = 2 * 2 * 64 * 3 * 5, 2 * 2 * 5 * 7
    assert count_operations(work, precision="bf16") == {"bf16": convolution, "fp32": product}
    assert count_operations(work, precision="fp32") == {"fp32": convolution + product}


def test_rows_hold_medians_ratios_and_shares() -> None:
    timings = Timings({"plain": [8, 8, 10], "ours": [2, 2, 4], "short": [0.002, 0.002, 0.002]})
    common: dict[str, Any] = {"reference": "plain", "ideal": [1, 1, 1], "limit": "reading"}
    rate = measured_row("ours", timings, per_call=64, unit="images/s", **common)
    assert (rate.value, rate.times, rate.share) == (32, 4, 0.5)
    assert rate.quartiles == [64 / 3, 32]
    assert rate.limit == "reading: 64 images/s"
    seconds = measured_row("ours", timings, ideal=[0.5, 0.5, 0.5], limit="reading")
    assert (seconds.value, seconds.unit, seconds.share, seconds.times) == (2, "s", 0.25, None)
    short = measured_row("short", timings)
    assert (short.value, short.unit) == (2, "ms")
    operations, rates = {"fp32": 10.0, "bf16": 40.0}, {"fp32": [10.0] * 3, "bf16": [80.0] * 3}
    row = network_row("ours", timings, images=16, reference="plain", operations=operations, rates=rates)
    assert (row.value, row.unit, row.times, row.share) == (2000, "ms", 4, 0.75)
    assert (row.limit, row.note) == ("products: 1,500 ms", "8 images/s")


SIZES = [100, 300, 1000, 3000, 10_000]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_a_power_law_gives_its_exponent(power: float) -> None:
    assert exponent(SIZES, [3e-6 * size**power for size in SIZES]) == pytest.approx(power)


def test_the_slope_is_that_of_least_squares_over_the_larger_half() -> None:
    seconds = [5.0, 1.0, 1.2, 4.1, 9.0]
    expected = np.polyfit(np.log(SIZES[-3:]), np.log(seconds[-3:]), 1)[
        0
    ]  # fixed costs of small ones do not count
    assert exponent(SIZES, seconds) == pytest.approx(expected)
    shuffled = [3, 0, 4, 1, 2]
    assert exponent([SIZES[i] for i in shuffled], [seconds[i] for i in shuffled]) == pytest.approx(expected)


def test_a_function_elsewhere_keeps_its_process_and_its_state() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with elsewhere(counting, device=torch.device("cpu"), start=5) as function:
            first, second = function(), function()
            assert first[0] == second[0] != os.getpid()
            assert (first[1], second[1]) == (5, 6)
            assert first[2] == 2
            with pytest.raises(BrokenProcessPool):
                function()
    finally:
        torch.set_num_threads(before)
    assert not psutil.pid_exists(first[0])
