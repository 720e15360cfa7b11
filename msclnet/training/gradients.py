"""How strongly each loss pulls at the extractors."""

from collections.abc import Mapping

import torch
from torch import Tensor


def gradient_sizes(
    values: Mapping[str, Tensor], weights: Mapping[str, float], maps: Tensor
) -> dict[str, float]:
    """Norm of each weighted term's gradient with respect to the extractors' maps.

    Terms that do not reach the extractors (eq. 14 to 16) have size 0.
    """
    sizes = {}
    for name, value in values.items():
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, maps, retain_graph=True, allow_unused=True)
        sizes[f"gradient_{name}"] = 0.0 if gradient is None else weights[name] * gradient.norm().item()
    return sizes
