"""A moving average of the weights, which moves less than they do and tests better."""

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

WARM_UP = 10


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of the network for the average of its weights and running statistics; nothing is averaged yet.

    `update_parameters(network)` does m <- a m + (1 - a) w with a = min(decay, (1 + n) / (10 + n)) after n updates.
    Without that warm-up, which is TensorFlow's (tf.train.ExponentialMovingAverage), a run that is short beside
    1 / (1 - decay) steps would keep little but its random start.

    Args:
        network: What is trained.
        decay: In (0, 1).

    Source of averaging iterates: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992.
    """

    def rule(means: Any, values: Any, updates: Any) -> None:
        n = int(updates)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (WARM_UP + n)))(means, values, updates)

    return AveragedModel(network, multi_avg_fn=rule, use_buffers=True)
