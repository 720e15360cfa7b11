"""The learning rate at the borders of epochs and warm-up."""

import pytest

from msclnet.training.optimizer import Schedule

PAPER = ((1, 0.1), (21, 0.05), (51, 0.01), (101, 0.001))
STEPS = 7


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
