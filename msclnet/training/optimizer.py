"""Optimizer, learning-rate schedule and moving average of the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

WARM_UP = 10  # of the moving average


def build_optimizer(
    network: nn.Module, settings: Mapping[str, Any], *, pretrained: nn.Module | None
) -> torch.optim.SGD:
    """SGD whose groups carry their share of the scheduled rate as `factor`.

    `pretrained` is the part that learns at `pretrained_factor` times the rate (AGW: a tenth), or None.
    """
    slow = {id(p) for p in pretrained.parameters()} if pretrained is not None else set()
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) not in slow], "factor": 1.0},
        {"params": [p for p in trained if id(p) in slow], "factor": float(settings["pretrained_factor"])},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=0.0,
        momentum=settings["momentum"],
        nesterov=settings["nesterov"],
        weight_decay=settings["weight_decay"],
        fused=True,  # one pass over each weight instead of six
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


@dataclass(frozen=True)
class Schedule:
    """Piecewise constant by epoch, with a linear warm-up in front.

    Source: the paper, section 4.2 (0.1 to epoch 20, 0.05 to 50, 0.01 to 100, 0.001 to 200); the warm-up is AGW's,
    whose public code raises the rate by epoch.
    """

    # (first epoch, rate), epochs from 1, ascending; a rate holds until the next point.
    points: Sequence[tuple[int, float]]
    warmup_epochs: float  # 0: none
    steps_per_epoch: int
    # What raises the rate: every step or every epoch, whose steps then have one rate.
    warmup: Literal["step", "epoch"] = "step"

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0 over the whole run."""
        epoch = step // self.steps_per_epoch + 1
        rate = next(rate for first, rate in reversed(self.points) if first <= epoch)
        if not self.warmup_epochs:
            return rate
        if self.warmup == "epoch":
            return rate * min(1.0, epoch / self.warmup_epochs)
        return rate * min(1.0, (step + 1) / (self.warmup_epochs * self.steps_per_epoch))


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of the network for the average of its weights and running statistics; nothing is averaged yet.

    `update_parameters(network)` does m <- a m + (1 - a) w with a = min(decay, (1 + n) / (10 + n)) after n updates.
    Without that warm-up, which is TensorFlow's (tf.train.ExponentialMovingAverage), a run that is short compared to
    1 / (1 - decay) steps would keep little but its random start.

    Source of averaging iterates: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992.
    """

    def rule(means: Any, values: Any, updates: Any) -> None:
        n = int(updates)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (WARM_UP + n)))(means, values, updates)

    return AveragedModel(network, multi_avg_fn=rule, use_buffers=True)
