"""From maps to vectors: generalised-mean pooling and averages, whole and by horizontal parts."""

import torch
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
    return _positions(_power(maps, p)).mean(dim=1).pow(1 / p)


def gem_parts(maps: Tensor, *, p: float, parts: int) -> Tensor:
    """Generalised-mean pooling over equal horizontal strips.

    Args:
        maps: (N, C, H, W); values below 1e-6 count as 1e-6.
        p: Exponent, 1 to 6.
        parts: Number of strips. Where H is no multiple of it, neighbouring strips share a row.

    Returns:
        (N, parts, C), from head to feet.
    """
    return average_parts(_power(maps, p), parts=parts).pow(1 / p)


def average_parts(maps: Tensor, *, parts: int) -> Tensor:
    """Mean over equal horizontal strips, signed.

    Args:
        maps: (N, C, H, W).
        parts: Number of strips. Where H is no multiple of it, neighbouring strips share a row.

    Returns:
        (N, parts, C), from head to feet.
    """
    if maps.shape[2] % parts:
        return F.adaptive_avg_pool2d(maps, (parts, 1)).squeeze(3).transpose(1, 2)
    return _positions(maps).unflatten(1, (parts, -1)).mean(dim=2)


def instance_normalised_parts(maps: Tensor, *, parts: int, eps: float = 1e-5) -> Tensor:
    """`average_parts` of the instance-normalised maps, which are never made: both steps are linear in the maps.

    Args:
        maps: (N, C, H, W).
        parts: Number of strips.
        eps: Added to the variance.

    Returns:
        (N, parts, C), from head to feet; before any scale and shift.
    """
    values = _positions(maps)
    mean = values.mean(dim=1, keepdim=True)
    variance = (values - mean).square().mean(dim=1, keepdim=True)
    return (average_parts(maps, parts=parts) - mean) * torch.rsqrt(variance + eps)


def _power(maps: Tensor, p: float) -> Tensor:
    # The same values as clamp(min=FLOOR), whose gradient takes several times as long on a CPU.
    return F.threshold(maps, FLOOR, FLOOR).pow(p)


def _positions(maps: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H W, C): a view where channels are last in memory, as they are on the way from the trunk."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)
