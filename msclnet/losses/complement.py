"""Section 3.3, Modality Complement: local detail from visible, global statistics from infrared."""

import torch.nn.functional as F
from torch import Tensor

from msclnet.losses.cascade import centres, group_sizes

FORMS = ("stable", "printed", "cosine")


def local_loss(synergistic: Tensor, visible: Tensor, *, form: str = "stable") -> Tensor:
    """Sum over the parts, mean over the images, of a distance of corresponding parts.

    Args:
        synergistic: (N, P, C).
        visible: (N, P, C).
        form: `stable`: sqrt(max(0, 2 - 2 cos) + 1e-6), the Euclidean distance of the normalised parts.
            `cosine`: 1 - cos. `printed`: cos + sqrt(2 - 2 cos), whose maximum lies at cos = 0.5, so that a
            fresh network is driven to cos = -1 (the root is guarded as in `stable`, for rounding takes cos
            above 1).

    Raises:
        ValueError: `form` is unknown.
    """
    cosine_NP = F.cosine_similarity(synergistic, visible, dim=2)
    if form == "cosine":
        distance_NP = 1 - cosine_NP
    elif form == "stable":
        distance_NP = _chord(cosine_NP)
    elif form == "printed":
        distance_NP = cosine_NP + _chord(cosine_NP)
    else:
        raise ValueError(f"form must be one of {FORMS}, not {form!r}")
    return distance_NP.sum(dim=1).mean()


def _chord(cosine: Tensor) -> Tensor:
    return ((2 - 2 * cosine).clamp(min=0) + 1e-6).sqrt()


def global_loss(synergistic: Tensor, infrared: Tensor, identities: Tensor) -> Tensor:
    """Squared distance of the synergistic and the infrared class centre, mean over the batch's identities.

    Args:
        synergistic: (N, D). Give L2-normalised features; raw ones are the printed form, which does not fall,
            for f^s is bounded by tanh and f^r is not.
        infrared: (N, D).
        identities: (N,) of both, in the same order.
    """
    squared_N = (centres(synergistic, identities) - centres(infrared, identities)).square().sum(dim=1)
    share_N = 1 / group_sizes(identities, squared_N.dtype)  # each identity counts once, whatever its rows
    return (share_N * squared_N).sum() / share_N.sum()
