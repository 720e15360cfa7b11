"""Section 3.2, Modality Synergy: divergence of the modalities, and the soft target of the fused feature.

L_t with a synergy target: the synergistic branch teaches each single modality.

This is this project's reading, not a printed equation. The paper's hooks for it: the hat over y in eq. 4,
"knowledge synergy" as the motivation of the module, and y as an input of S in eq. 2.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

FORMS = ("js", "kl", "kl_hinge")
HINGE = 1.0  # nats; beyond it `kl_hinge` pushes no further


def divergence_loss(
    visible: Tensor, infrared: Tensor, *, form: str = "js", temperature: float = 1.0
) -> Tensor:
    """Minus the divergence of softmax(visible / T) from softmax(infrared / T), mean over all rows.

    The paper speaks of "logistic distributions" and prints -KL of the features themselves; half of them are
    negative, so that it is not a number at the first step. The softmax over channels is our reading.

    Args:
        visible: (..., C) instance-normalised features of the visible images.
        infrared: (..., C) of the infrared images of the same identities.
        form: `js`: minus the Jensen-Shannon divergence, within [-ln 2, 0]. `kl`: as printed but for the
            softmax; unbounded below. `kl_hinge`: max(0, 1 - KL) - 1, within [-1, 0].
        temperature: T > 0. A near-uniform softmax (large T) hides the gradient.

    Raises:
        ValueError: `form` is unknown.
    """
    log_visible = F.log_softmax(visible / temperature, dim=-1)
    log_infrared = F.log_softmax(infrared / temperature, dim=-1)
    if form == "js":
        log_mean = torch.logaddexp(log_visible, log_infrared) - math.log(2)
        return -(_kl(log_visible, log_mean) + _kl(log_infrared, log_mean)).mean() / 2
    kl = _kl(log_visible, log_infrared)
    if form == "kl":
        return -kl.mean()
    if form == "kl_hinge":
        return ((HINGE - kl).clamp(min=0) - HINGE).mean()
    raise ValueError(f"form must be one of {FORMS}, not {form!r}")


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) over the last axis."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def soft_target_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the rows.

    T^2 keeps the gradient's size independent of T (Hinton et al., 2015). The teacher gets no gradient.

    Args:
        student: (N, K) logits of one modality.
        teacher: (N, K) logits that teach it.
        temperature: T > 0.
    """
    target = F.log_softmax(teacher.detach() / temperature, dim=1)
    prediction = F.log_softmax(student / temperature, dim=1)
    return temperature**2 * F.kl_div(prediction, target, reduction="batchmean", log_target=True)
