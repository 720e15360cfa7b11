"""The parts after the backbone: the BNNeck and the modality-specific normalisation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BNNeck(nn.Module):
    """Batch norm with its bias frozen at 0, then a classifier without bias.

    Source: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, CVPRW 2019,
    section 3.5.
    """

    def __init__(self, channels: int, identities: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.norm.bias.requires_grad_(False)
        self.classifier = nn.Linear(channels, identities, bias=False)
        nn.init.normal_(self.norm.weight, mean=1.0, std=0.01)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> normalised feature (N, D), logits (N, identities)."""
        normalised = self.norm(features)
        return normalised, self.classifier(normalised)


class ModalityNorm(nn.Module):
    """f-hat = IN(f) with a learned scale and shift for each channel, as nn.InstanceNorm2d has them.

    The mean over positions commutes with scale and shift, so that pooled parts can be had with a gradient that ends
    in scale and shift.
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
