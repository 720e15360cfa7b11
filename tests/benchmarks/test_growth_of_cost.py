"""Exponents of power laws that are known."""

import numpy as np
import pytest

from benchmarks.core.growth import Curve, exponent

SIZES = [100, 300, 1000, 3000, 10_000]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_a_power_law_gives_its_exponent(power: float) -> None:
    assert exponent(SIZES, [3e-6 * size**power for size in SIZES]) == pytest.approx(power)


def test_the_slope_is_that_of_least_squares_over_the_larger_half() -> None:
    seconds = [5.0, 1.0, 1.2, 4.1, 9.0]
    expected = np.polyfit(np.log(SIZES[-3:]), np.log(seconds[-3:]), 1)[0]
    assert exponent(SIZES, seconds) == pytest.approx(expected)
    shuffled = [3, 0, 4, 1, 2]
    assert exponent([SIZES[i] for i in shuffled], [seconds[i] for i in shuffled]) == pytest.approx(expected)


def test_fixed_costs_of_small_sizes_do_not_count() -> None:
    assert exponent(SIZES, [1e-3, 1e-3, 1e-3, 3e-3, 1e-2]) == pytest.approx(1)
    assert exponent([10, 1000], [1, 10]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("sizes", "seconds"), [([1], [1.0]), ([1, 2], [1.0]), ([0, 2], [1.0, 2.0]), ([1, 2], [0.0, 1.0])]
)
def test_what_has_no_exponent_is_refused(sizes: list[int], seconds: list[float]) -> None:
    with pytest.raises(ValueError, match="two or more positive sizes"):
        exponent(sizes, seconds)


@pytest.mark.parametrize(
    ("power", "linear"), [(0.2, True), (1.0, True), (1.09, True), (1.11, False), (2.0, False)]
)
def test_a_tenth_above_one_is_linear(power: float, linear: bool) -> None:
    curve = Curve("x", "images", SIZES, [size**power for size in SIZES])
    assert curve.at_most_linear is linear
