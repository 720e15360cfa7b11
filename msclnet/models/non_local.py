"""Non-local block in its dot-product form, and the product with batch norm that it trains by on a CPU."""

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn


def normed_product(
    values: Tensor, weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm1d | nn.BatchNorm2d
) -> tuple[Tensor, Tensor]:
    """Factors whose product is `norm(values @ weight.T + bias)` in training, C channels wide.

    For y = W a + b the batch's mean is W mean(a) + b, and its variance is diag(W cov(a) W^T): both follow from the
    few numbers of a, so that the C channels of y need not be made for them. With s = gamma / sqrt(variance + eps),
    norm(y) = s W (a - mean(a)) + beta. Running statistics are updated as batch norm does. b moves the running mean
    alone.

    Args:
        values: a, (M, I); the statistics are taken over M in float32 at least.
        weight, bias: W, (C, I) and b, (C), or None.

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


TENSOR_CORE_WIDTH = 8  # bf16 channels come in multiples of it, or the slow kernels do


class NonLocalBlock(nn.Module):
    """Adds to each position a mean over all positions, weighted by dot products.

    The weights are `theta(x) . phi(x) / positions`, without softmax. The output's batch norm starts at
    gamma = beta = 0, so that a fresh block is the identity and pretrained weights keep their meaning.
    AGW's published results were made with an inner width of 1.

    Source: Wang et al., Non-local Neural Networks, CVPR 2018, sections 3.2 and 3.3 (dot product), as AGW
    (Ye et al., TPAMI 2021) uses it.
    """

    def __init__(self, channels: int, inner_channels: int) -> None:
        super().__init__()
        if inner_channels < 1:
            raise ValueError(f"inner_channels must be at least 1, not {inner_channels}")
        self.theta = nn.Conv2d(channels, inner_channels, 1)
        self.phi = nn.Conv2d(channels, inner_channels, 1)
        self.g = nn.Conv2d(channels, inner_channels, 1)
        self.out = nn.Conv2d(inner_channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        # One convolution for all three: the maps are read once, and their gradient is written once.
        weight = torch.cat([self.theta.weight, self.phi.weight, self.g.weight])
        bias = torch.cat([part.bias for part in (self.theta, self.phi, self.g) if part.bias is not None])
        if self.norm.training and maps.device.type == "cpu":  # not where it is frozen
            return self._by_products(maps, weight, bias)
        n, _, height, width = maps.shape
        positions = height * width
        weight, bias = wide_enough(weight, bias)
        used = 3 * self.theta.out_channels
        theta, phi, g = F.conv2d(maps, weight, bias)[:, :used].flatten(2).chunk(3, dim=1)
        # (theta^T phi) g^T = theta^T (phi g^T): the inner width is far below the number of positions.
        context = torch.einsum("nip,njp->nij", phi, g) / positions
        attended = torch.einsum("nip,nij->npj", theta, context).reshape(n, height, width, -1)
        # Channels last in memory: with one inner channel torch would take the other order and mix both from here on.
        return maps + self.norm(self.out(attended.permute(0, 3, 1, 2)))

    def _by_products(self, maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The same in training on a CPU, whose limit is the passes over C channels: two forward and four backward."""
        rows = maps.permute(0, 2, 3, 1)
        theta, phi, g = F.linear(rows, weight.flatten(1), bias).flatten(1, 2).chunk(3, dim=2)
        attended = theta @ (phi.transpose(1, 2) @ g / phi.shape[1])
        # The bias of `out` has no part in it: batch norm takes it away, and it stays without a gradient.
        inner, factors = normed_product(
            attended.flatten(0, 1), self.out.weight.flatten(1), self.out.bias, self.norm
        )
        return torch.addmm(rows.flatten(0, 2), inner, factors).view(rows.shape).permute(0, 3, 1, 2)


# Left whole where a network is traced, as msclnet.export does to fold batch norms: no tensor is there to ask then.
@torch.fx.wrap
def wide_enough(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and biases of a 1 x 1 convolution, on a GPU padded by zeros to what its tensor cores take.

    Without it, the weights' gradient alone took a seventh of a ResNet-50's training step on an H100.
    """
    missing = -len(bias) % TENSOR_CORE_WIDTH
    if not (missing and weight.is_cuda):
        return weight, bias
    return F.pad(weight, (0, 0, 0, 0, 0, 0, 0, missing)), F.pad(bias, (0, missing))
