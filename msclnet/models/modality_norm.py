"""Instance normalisation of one modality's maps (eq. 1), with its scale and shift apart."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ModalityNorm(nn.Module):
    """f-hat = IN(f) with a learned scale and shift for each channel, as nn.InstanceNorm2d has them.

    The mean over positions commutes with scale and shift. So the parts are pooled first, which spares a pass over
    the maps, and they can also be had with a gradient that ends in scale and shift.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, h, w) -> every map with mean 0 and variance 1 over its positions, before scale and shift."""
        return F.instance_norm(maps)

    def scaled_parts(self, parts_NPC: Tensor) -> Tensor:
        """Scale and shift of pooled maps."""
        return parts_NPC * self.weight + self.bias

    def scaled_maps(self, maps_NChw: Tensor) -> Tensor:
        """Scale and shift of maps."""
        return maps_NChw * self.weight[:, None, None] + self.bias[:, None, None]
