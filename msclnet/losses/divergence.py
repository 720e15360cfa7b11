"""L_div: the two modalities' distributions are driven apart, so that they hold different knowledge (eq. 3)."""

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
