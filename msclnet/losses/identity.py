"""Identity loss: cross-entropy of the identity logits."""

import torch.nn.functional as F
from torch import Tensor


def identity_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy.

    Source: the baseline's L_id (AGW); eq. 4 of MSCLNet when given the logits of the instance-normalised
    features and the labels themselves.

    Args:
        logits: (N, K).
        labels: (N,) in [0, K).
    """
    return F.cross_entropy(logits, labels)
