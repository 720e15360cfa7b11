"""From maps to vectors: generalised-mean pooling and averages, whole and by horizontal parts."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

EPS = 1e-5  # nn.InstanceNorm2d's
FLOOR = 1e-6  # keeps the root's gradient finite where a map is zero (in float32 up to p = 6)
CHUNK = 2**20  # values that are worked on at a time on a CPU: 4 MiB, which a cache holds


@dataclass(frozen=True)
class PooledMaps:
    """Maps (N, C, H, W) pooled over all positions, and over P horizontal strips from head to feet."""

    whole: Tensor  # (N, C), see `gem`
    parts: Tensor  # (N, P, C), see `gem_parts`
    normalised_parts: Tensor  # (N, P, C), see `instance_normalised_parts`


def pool_maps(maps: Tensor, *, p: float, parts: int) -> PooledMaps:
    """The three poolings of maps (N, C, H, W), without their passes over the memory.

    Powers, centred maps and their gradients are never stored for the whole batch, only for as many images at a time
    as the processor's cache holds. Where H is no multiple of `parts`, neighbouring strips share a row, and the poolings
    are taken one by one.
    """
    if maps.shape[2] % parts:
        return PooledMaps(
            whole=gem(maps, p=p),
            parts=gem_parts(maps, p=p, parts=parts),
            normalised_parts=instance_normalised_parts(maps, parts=parts, eps=EPS),
        )
    powers, averages, variances = _Means.apply(maps, p, parts)
    centred = averages - averages.mean(dim=1, keepdim=True)
    return PooledMaps(
        whole=powers.mean(dim=1).pow(1 / p),
        parts=powers.pow(1 / p),
        normalised_parts=centred * torch.rsqrt(variances + EPS).unsqueeze(1),
    )


class _Means(torch.autograd.Function):
    """Maps -> mean of the powers (N, P, C), mean (N, P, C), variance over all positions (N, C).

    The gradient at a value x of strip j, with n values in a strip and m the mean over all strips:
    p x^(p-1) dpowers_j / n where x > FLOOR, + daverages_j / n, + 2 (x - m) dvariances / (P n).
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, p: float, parts: int) -> tuple[Tensor, Tensor, Tensor]:
        values = _strips(maps, parts)
        powers, averages, variances = [], [], []
        for x in values.split(_images_at_a_time(maps)):
            means = x.mean(dim=2)
            averages.append(means)
            powers.append(F.threshold(x, FLOOR, FLOOR).pow_(p).mean(dim=2))
            variances.append(_less_mean(x, means).square_().mean(dim=(1, 2)))
        every_average = torch.cat(averages)
        ctx.save_for_backward(maps, every_average)
        ctx.p, ctx.parts = p, parts
        ctx.set_materialize_grads(False)  # the baseline's losses leave mean and variance alone
        return torch.cat(powers), every_average, torch.cat(variances)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, powers: Tensor | None, averages: Tensor | None, variances: Tensor | None
    ) -> tuple[Tensor, None, None]:
        maps, means = ctx.saved_tensors
        values = _strips(maps, ctx.parts)
        positions = values.shape[2]
        gradient = torch.empty_like(values)
        size = _images_at_a_time(maps)
        for first in range(0, len(values), size):
            rows = slice(first, first + size)
            x, out = values[rows], gradient[rows]
            if powers is None:
                out.zero_()
            else:
                above = F.threshold(x, FLOOR, 0.0)
                torch.sign(above, out=out) if ctx.p == 1 else torch.pow(above, ctx.p - 1, out=out)  # 0^0 is 1
                out.mul_((powers[rows] * (ctx.p / positions)).unsqueeze(2))
            if averages is not None:
                out.add_((averages[rows] / positions).unsqueeze(2))
            if variances is not None:
                scale = variances[rows] * (2 / (positions * ctx.parts))
                out.add_(_less_mean(x, means[rows]).mul_(scale[:, None, None]))
        n, channels, height, width = maps.shape
        return gradient.view(n, height, width, channels).permute(0, 3, 1, 2), None, None


def _strips(maps: Tensor, parts: int) -> Tensor:
    """(N, C, H, W) -> (N, P, values of a strip, C): a view where channels are last in memory."""
    n, channels, height, width = maps.shape
    return maps.permute(0, 2, 3, 1).reshape(n, parts, height // parts * width, channels)


def _less_mean(values: Tensor, means: Tensor) -> Tensor:
    """Values of strips (n, P, positions, C) less the mean over all strips, by the strips' means (n, P, C)."""
    return values - means.mean(dim=1)[:, None, None]


def _images_at_a_time(maps: Tensor) -> int:
    if maps.device.type != "cpu":
        return max(len(maps), 1)  # on a GPU each turn of the loop costs a launch
    return max(CHUNK // maps[0].numel(), 1) if len(maps) else 1


def gem(maps: Tensor, *, p: float) -> Tensor:
    """Generalised-mean pooling, (mean of x^p)^(1/p) over the positions: (N, C, H, W) -> (N, C), with p from 1 to 6.

    Values below 1e-6 count as 1e-6.
    Source: Radenovic et al., TPAMI 2019, eq. 2; AGW uses p = 3, not learned.
    """
    return _positions(_power(maps, p)).mean(dim=1).pow(1 / p)


def gem_parts(maps: Tensor, *, p: float, parts: int) -> Tensor:
    """`gem` over equal horizontal strips, (N, parts, C) from head to feet; see `average_parts`."""
    return average_parts(_power(maps, p), parts=parts).pow(1 / p)


def average_parts(maps: Tensor, *, parts: int) -> Tensor:
    """Mean over equal horizontal strips, signed: (N, C, H, W) -> (N, parts, C), from head to feet.

    Where H is no multiple of their number, neighbouring strips share a row.
    """
    if maps.shape[2] % parts:
        return F.adaptive_avg_pool2d(maps, (parts, 1)).squeeze(3).transpose(1, 2)
    return _positions(maps).unflatten(1, (parts, -1)).mean(dim=2)


def instance_normalised_parts(maps: Tensor, *, parts: int, eps: float = 1e-5) -> Tensor:
    """`average_parts` of the instance-normalised maps, before any scale and shift.

    The normalised maps are never made: both steps are linear in the maps.
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
