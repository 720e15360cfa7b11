"""L_local: the synergistic feature learns local detail from the visible parts (eq. 6)."""

import torch.nn.functional as F
from torch import Tensor

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
