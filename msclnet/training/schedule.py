"""The learning rate as a function of the step."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Piecewise constant by epoch, with a linear warm-up in front.

    Source: the paper, section 4.2 (0.1 to epoch 20, 0.05 to 50, 0.01 to 100, 0.001 to 200); the warm-up is AGW's.

    Attributes:
        points: (first epoch, rate) with epochs counted from 1, ascending; a rate holds until the next point.
        warmup_epochs: Length of the warm-up; 0 for none.
        steps_per_epoch: Steps of an epoch.
    """

    points: Sequence[tuple[int, float]]
    warmup_epochs: float
    steps_per_epoch: int

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0 over the whole run."""
        epoch = step // self.steps_per_epoch + 1
        rate = next(rate for first, rate in reversed(self.points) if first <= epoch)
        warmup = self.warmup_epochs * self.steps_per_epoch
        return rate * min(1.0, (step + 1) / warmup) if warmup else rate
