"""From maps to vectors: generalised-mean pooling, whole and by horizontal parts."""

import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-6  # keeps the root's gradient finite where a map is zero (in float32 up to p = 6)


def gem(maps: Tensor, *, p: float) -> Tensor:
    """Generalised-mean pooling, (mean of x^p)^(1/p) over the positions.

    Source: Radenovic et al., TPAMI 2019, eq. 2; AGW uses p = 3, not learned.

    Args:
        maps: (N, C, H, W); values below 1e-6 count as 1e-6.
        p: Exponent, 1 to 6; 1 is the mean.

    Returns:
        (N, C).
    """
    return maps.clamp(min=FLOOR).pow(p).mean(dim=(2, 3)).pow(1 / p)


def gem_parts(maps: Tensor, *, p: float, parts: int) -> Tensor:
    """Generalised-mean pooling over equal horizontal strips.

    Args:
        maps: (N, C, H, W); values below 1e-6 count as 1e-6.
        p: Exponent, 1 to 6.
        parts: Number of strips. Where H is no multiple of it, neighbouring strips share a row.

    Returns:
        (N, parts, C), from head to feet.
    """
    return average_parts(maps.clamp(min=FLOOR).pow(p), parts=parts).pow(1 / p)


def average_parts(maps: Tensor, *, parts: int) -> Tensor:
    """Mean over equal horizontal strips, signed.

    Args:
        maps: (N, C, H, W).
        parts: Number of strips. Where H is no multiple of it, neighbouring strips share a row.

    Returns:
        (N, parts, C), from head to feet.
    """
    return F.adaptive_avg_pool2d(maps, (parts, 1)).squeeze(3).transpose(1, 2)
