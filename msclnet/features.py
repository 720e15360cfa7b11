"""What the network gives to the losses.

Shapes: N pairs of images, C channels, P parts, K identities.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Stream:
    """What one modality's extractor gives for N images."""

    pooled: Tensor  # (N, C) GeM of the maps: what the triplet sees
    logits: Tensor  # (N, K) of the BNNeck feature
    parts: Tensor  # (N, P, C) GeM by strips, before instance normalisation: f of section 3.3
    normalised_parts: Tensor  # (N, P, C) means by strips of the instance-normalised maps: f-hat of eq. 1
    # The same values; their gradient ends in the normalisation's own parameters.
    isolated_normalised_parts: Tensor
    normalised_logits: Tensor | None  # (N, K) of GeM(ReLU(f-hat)), where eq. 4 asks for it


@dataclass(frozen=True)
class Synergy:
    """The synergistic feature f^s of N pairs (eq. 2).

    The isolated ones have the same values, but their gradient ends in the synergistic branch.
    """

    parts: Tensor  # (N, P, C)
    pooled: Tensor  # (N, C)
    logits: Tensor  # (N, K)
    isolated_parts: Tensor  # (N, P, C)
    isolated_pooled: Tensor  # (N, C)


@dataclass(frozen=True)
class Features:
    """All that the losses read."""

    maps: Tensor  # (2 N, C, h, w), visible rows first: the maps through which all losses reach the extractors
    visible: Stream
    infrared: Stream
    synergy: Synergy | None


@dataclass(frozen=True)
class PairLabels:
    """Identities and cameras of N pairs."""

    identities: Tensor  # (N,) in [0, K)
    cameras_visible: Tensor  # (N,)
    cameras_infrared: Tensor  # (N,)
    # Number of different identities, where it is known without synchronising a GPU.
    distinct: int | None = None
