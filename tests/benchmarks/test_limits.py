"""Limits are computed from timings as stated, and what is timed is a product of that size."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.core import limits
from benchmarks.core.limits import ideal_seconds, product_rates, product_ways, reading_rates
from benchmarks.core.operations import count_operations
from benchmarks.core.rows import network_row, rate_row, seconds_row
from benchmarks.core.turns import Timings

CPU = torch.device("cpu")
PRODUCT = 2 * 2048**3


def test_the_fastest_library_on_the_whole_is_the_limit() -> None:
    timings = Timings(
        {"limit fp32 torch": [4, 4, 1], "limit fp32 numpy": [2, 3, 2], "limit bf16 torch": [1, 1, 1]}
    )
    assert product_rates(timings, "fp32", CPU) == [PRODUCT / 2, PRODUCT / 3, PRODUCT / 2]
    assert product_rates(timings, "bf16", CPU) == [PRODUCT] * 3
    with pytest.raises(ValueError, match="reading"):
        reading_rates(timings, CPU)


def test_work_of_two_precisions_takes_the_sum_of_their_times() -> None:
    rates = {"fp32": [10.0, 5.0], "bf16": [40.0, 20.0]}
    assert ideal_seconds({"fp32": 20.0, "bf16": 80.0}, rates) == [4, 8]
    assert ideal_seconds({"bf16": 80.0}, rates) == [2, 4]


def test_products_have_the_size_that_the_rate_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits.SIDE, "cpu", 64)
    for precision in ("fp32", "bf16"):
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
    timings = Timings({"plain": [8, 8, 10], "ours": [2, 2, 4]})
    rate = rate_row(
        "ours", timings, per_call=64, unit="images/s", reference="plain", ideal=[1, 1, 1], limit="reading"
    )
    assert (rate.value, rate.times, rate.share) == (32, 4, 0.5)
    assert rate.quartiles == (64 / 3, 32)
    assert rate.limit == "reading: 64 images/s"
    seconds = seconds_row("ours", timings, ideal=[0.5, 0.5, 0.5], limit="reading")
    assert (seconds.value, seconds.unit, seconds.share, seconds.times) == (2, "s", 0.25, None)
    short = seconds_row("ours", Timings({"ours": [0.002]}))
    assert (short.value, short.unit) == (2, "ms")


def test_a_precision_without_a_limit_here_has_no_share() -> None:
    timings = Timings({"plain": [8, 8, 10], "ours": [2, 2, 4]})
    operations, rates = {"fp32": 10.0, "bf16": 40.0}, {"fp32": [10.0] * 3, "bf16": [80.0] * 3}
    row = network_row("ours", timings, images=16, reference="plain", operations=operations, rates=rates)
    assert (row.value, row.unit, row.times, row.share) == (2000, "ms", 4, 0.75)
    assert row.note == "8 images/s"
    del rates["bf16"]
    row = network_row("ours", timings, images=16, reference="plain", operations=operations, rates=rates)
    assert row.share is None
    assert row.limit == "not applicable: no bf16 instructions"
