"""Batch norm after a linear map of few numbers, as one matrix product."""

import torch
from torch import Tensor, nn


def normed_product(
    values: Tensor, weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm1d | nn.BatchNorm2d
) -> tuple[Tensor, Tensor]:
    """Factors whose product is `norm(values @ weight.T + bias)` in training, C channels wide.

    For y = W a + b the batch's mean is W mean(a) + b, and its variance is diag(W cov(a) W^T): both follow from the few
    numbers of a, so that the C channels of y need not be made for them. With s = gamma / sqrt(variance + eps),
    norm(y) = s W (a - mean(a)) + beta. Running statistics are updated as batch norm does.

    Args:
        values: a, (M, I); the statistics are taken over M in float32 at least.
        weight: W, (C, I).
        bias: b, (C), or None. It moves the running mean alone, and has no gradient.
        norm: C channels, with running statistics.

    Returns:
        (a - mean(a), 1) as (M, I + 1), and (s W, beta) transposed, as (I + 1, C).
    """
    with torch.autocast(values.device.type, enabled=False):
        exact = values.to(torch.promote_types(values.dtype, torch.float32))
        mean = exact.mean(dim=0)
        centred = exact - mean
        variance = ((weight @ (centred.T @ centred / len(centred))) * weight).sum(dim=1)
        scaled = weight * (norm.weight * torch.rsqrt(variance + norm.eps)).unsqueeze(1)
        with torch.no_grad():
            means = weight @ mean if bias is None else weight @ mean + bias
            _update_running(norm, means, variance * (len(centred) / max(len(centred) - 1, 1)))
        ones = centred.new_ones(len(centred), 1)
        return torch.cat([centred, ones], dim=1), torch.cat([scaled.T, norm.bias.unsqueeze(0)])


def _update_running(norm: nn.BatchNorm1d | nn.BatchNorm2d, means: Tensor, unbiased: Tensor) -> None:
    assert norm.momentum is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.running_mean.lerp_(means, norm.momentum)
    norm.running_var.lerp_(unbiased, norm.momentum)
    norm.num_batches_tracked.add_(1)
