"""L_inter: the centres of different identities are pushed apart (eq. 12)."""

import torch
from torch import Tensor

from msclnet.losses.class_centres import class_centres, first_rows

FORMS = ("hinge", "negative")


def inter_loss(
    features: Tensor,
    identities: Tensor,
    subclasses: Tensor,
    *,
    form: str = "hinge",
    margin: float = 1.0,
    distinct: int | None = None,
) -> Tensor:
    """Mean over the pairs of identities in the batch.

    Args:
        features: (N, D), L2-normalised; raw ones are the printed form.
        identities: (N,), at least two different ones.
        subclasses: (N,) numbers of identity x camera.
        form: `hinge`: max(0, margin - distance)^2. `negative`: minus the squared distance, as printed;
            unbounded below on raw features.
        margin: Distance at which the hinge stops pushing; unit vectors are at most 2 apart.
        distinct: Number of different identities, where it is known; otherwise a GPU is asked and waited for.

    Raises:
        ValueError: `form` is unknown, or there is only one identity.
    """
    representatives_I = first_rows(identities, count=distinct)
    class_ID = class_centres(features, identities, subclasses)[representatives_I]
    first, second = torch.triu_indices(len(class_ID), len(class_ID), offset=1, device=features.device)
    if len(first) == 0:
        raise ValueError("L_inter needs at least two identities in the batch")
    squared = (class_ID[first] - class_ID[second]).square().sum(dim=1)
    if form == "negative":
        return -squared.mean()
    if form == "hinge":
        return (margin - squared.clamp(min=1e-12).sqrt()).clamp(min=0).square().mean()
    raise ValueError(f"form must be one of {FORMS}, not {form!r}")
