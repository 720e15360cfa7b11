"""The learning rate at the borders of epochs and warm-up."""

from pathlib import Path

import pytest

from msclnet.training.optimizer import Schedule
from pipelines.stages.presets import preset_params

PAPER = ((1, 0.1), (21, 0.05), (51, 0.01), (101, 0.001))
STEPS = 7
AGW = preset_params("agw-sysu-mm01", Path(__file__).resolve().parents[2])


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (1, 0.1),
        (20, 0.1),
        (21, 0.05),
        (50, 0.05),
        (51, 0.01),
        (100, 0.01),
        (101, 0.001),
        (200, 0.001),
    ],
)
def test_the_papers_schedule_at_its_borders(epoch: int, rate: float) -> None:
    schedule = Schedule(points=PAPER, warmup_epochs=0.0, steps_per_epoch=STEPS)
    first = (epoch - 1) * STEPS
    assert [schedule.rate(step) for step in range(first, first + STEPS)] == [rate] * STEPS


@pytest.mark.parametrize("warmup", [1.0, 10.0, 0.5])
def test_warm_up_is_a_straight_line_to_the_full_rate(warmup: float) -> None:
    schedule = Schedule(points=PAPER, warmup_epochs=warmup, steps_per_epoch=10)
    steps = int(10 * warmup)
    assert [schedule.rate(step) for step in range(steps)] == pytest.approx(
        [0.1 * (step + 1) / steps for step in range(steps)]
    )
    assert schedule.rate(steps - 1) == pytest.approx(0.1)
    assert schedule.rate(steps) == 0.1


def test_warm_up_beyond_a_change_scales_the_rate_of_its_epoch() -> None:
    schedule = Schedule(points=((1, 1.0), (2, 0.5)), warmup_epochs=4.0, steps_per_epoch=1)
    assert [schedule.rate(step) for step in range(5)] == pytest.approx([0.25, 0.25, 0.375, 0.5, 0.5])


def test_warm_up_by_epoch_is_that_of_agws_public_code() -> None:
    """Its epochs count from 0: (e + 1) / 10 of the rate up to epoch 9, a tenth from 20 on, a hundredth from 50 on."""
    points = [(point.from_epoch, point.rate) for point in AGW.train.optimizer.schedule]
    epochs, warmup = AGW.train.epochs, AGW.train.optimizer.warmup_epochs
    by_epoch, by_step = (
        Schedule(points, warmup_epochs=warmup, steps_per_epoch=STEPS, warmup=kind).rate
        for kind in (AGW.train.optimizer.warmup, "step")
    )
    expected = []
    for epoch in range(81):
        share = (epoch + 1) / 10 if epoch < 10 else 1 if epoch < 20 else 0.1 if epoch < 50 else 0.01
        expected += [0.1 * share] * STEPS
    assert [by_epoch(step) for step in range(epochs * STEPS)] == pytest.approx(expected)
    # A warm-up by step has its area below the straight line instead of the stairs.
    lost = 0.1 * (5.5 - (10 * STEPS + 1) / (2 * STEPS))
    assert sum(expected) - sum(map(by_step, range(81 * STEPS))) == pytest.approx(lost * STEPS)
