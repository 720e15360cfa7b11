"""Instance normalisation of one modality's maps (eq. 1), with its scale and shift apart."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ModalityNorm(nn.Module):
    """f-hat = IN(f) with a learned scale and shift for each channel, as nn.InstanceNorm2d has them.

    The mean over positions commutes with scale and shift, so that pooled parts can be had with a gradient that ends
    in scale and shift.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, h, w) -> f-hat of the same shape."""
        return F.instance_norm(maps, weight=self.weight, bias=self.bias)

    def scaled(self, parts: Tensor) -> Tensor:
        """Scale and shift of instance-normalised and pooled maps (..., C)."""
        return parts * self.weight + self.bias
