"""The baseline's losses: cross-entropy, and AGW's triplet loss with softmax weights."""

import torch
import torch.nn.functional as F
from torch import Tensor


def baseline_loss(pooled: Tensor, logits: Tensor, identities: Tensor) -> Tensor:
    """Both losses of one batch.

    Args:
        pooled: (N, C).
        logits: (N, K).
        identities: (N,) in [0, K).
    """
    return F.cross_entropy(logits, identities) + weighted_triplet_loss(pooled, identities)


def weighted_triplet_loss(features: Tensor, identities: Tensor) -> Tensor:
    """softplus of the weighted mean distance to the positives less that to the negatives, mean over the anchors.

    As AGW's results were made: an anchor is among its own positives, the largest value that a softmax subtracts is
    sought in the masked row with its zeros, and 1e-6 is added to its sum.
    """
    squares = (features * features).sum(dim=1)
    distances = squares[:, None] + squares[None, :] - 2 * (features @ features.t())
    distances = distances.clamp(min=1e-12).sqrt()
    positives = (identities[:, None] == identities[None, :]).float()
    negatives = 1 - positives
    far = weights(distances * positives, positives) * distances
    near = weights(-distances * negatives, negatives) * distances
    return F.softplus(far.sum(dim=1) - near.sum(dim=1)).mean()


def weights(values: Tensor, mask: Tensor) -> Tensor:
    """Softmax over a row's members."""
    shifted = torch.exp(values - values.max(dim=1, keepdim=True)[0]) * mask
    return shifted / (shifted.sum(dim=1, keepdim=True) + 1e-6)
