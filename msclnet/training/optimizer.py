"""SGD with a smaller rate for pretrained layers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def build_optimizer(
    network: nn.Module, settings: Mapping[str, Any], *, pretrained: nn.Module | None
) -> torch.optim.SGD:
    """SGD whose groups carry their share of the scheduled rate as `factor`.

    Args:
        network: All of its parameters that want a gradient are trained.
        settings: `momentum`, `nesterov`, `weight_decay` and `pretrained_factor`.
        pretrained: The part that starts from pretrained weights and learns at `pretrained_factor` times the
            rate (AGW: a tenth), or None.
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
