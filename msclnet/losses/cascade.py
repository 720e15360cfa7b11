"""Section 3.4, Cascaded Aggregation: sub-class, intra-class and inter-class losses over class centres.

All shapes follow from the number of rows alone, never from the groups that a batch holds: nothing synchronises the
GPU, and the whole training step can be recorded as a CUDA graph (see msclnet.training.cuda_graph).
"""

import torch
from torch import Tensor


def same_group(groups: Tensor) -> Tensor:
    """Which rows share a group: integers (N,) -> boolean (N, N)."""
    return groups[:, None] == groups[None, :]


def group_sizes(groups: Tensor, dtype: torch.dtype) -> Tensor:
    """For each row the number of rows in its group, (N,)."""
    return same_group(groups).to(dtype).sum(dim=1)


def centres(features: Tensor, groups: Tensor) -> Tensor:
    """For each row of (N, D) the mean feature of its group; groups are integers (N,)."""
    same_NN = same_group(groups).to(features.dtype)
    return (same_NN @ features) / same_NN.sum(dim=1, keepdim=True)


def class_centres(features: Tensor, identities: Tensor, subclasses: Tensor) -> Tensor:
    """For each row of (N, D) the centre of its class: the mean of its sub-class centres, of both modalities.

    This is what pulls the modalities together (section 3.4). Each sub-class belongs to one identity.
    """
    # Each sub-class has a weight of 1, which its rows share.
    share_N = 1 / group_sizes(subclasses, features.dtype)
    weight_NN = same_group(identities).to(features.dtype) * share_N
    return (weight_NN @ features) / weight_NN.sum(dim=1, keepdim=True)


def first_rows(groups: Tensor, *, count: int | None = None) -> Tensor:
    """The first row of each group, in ascending order.

    `count` is the number of groups, where it is known; otherwise counting synchronises the device.
    """
    before_NN = torch.ones_like(same_group(groups)).tril(-1)
    first_N = ~(same_group(groups) & before_NN).any(dim=1)
    count = int(first_N.sum()) if count is None else count
    return torch.argsort(first_N.to(torch.uint8), descending=True, stable=True)[:count]


# L_sub: features gather at the centre of their identity and camera (eq. 10).


def sub_loss(features: Tensor, subclasses: Tensor) -> Tensor:
    """Squared distance of each feature to the centre of its sub-class, mean over the features.

    A sub-class with one image in the batch contributes 0.

    Args:
        features: (N, D). Give L2-normalised features: on raw ones (the printed form) the cascade shrinks all
            features to 0 or runs off.
        subclasses: (N,) numbers of identity x camera.
    """
    return (features - centres(features, subclasses)).square().sum(dim=1).mean()


def intra_loss(features: Tensor, identities: Tensor, subclasses: Tensor) -> Tensor:
    """Squared distances of an identity's sub-class centres to its class centre: sum over them, mean over samples.

    Args:
        features: (N, D), L2-normalised; raw ones are the printed form.
        identities: (N,).
        subclasses: (N,) numbers of identity x camera.
    """
    centre_ND = class_centres(features, identities, subclasses)
    squared_N = (centres(features, subclasses) - centre_ND).square().sum(dim=1)
    # A sub-class's distance counts once for each sample of its identity; here it stands in each row of the sub-class.
    times_N = group_sizes(identities, features.dtype) / group_sizes(subclasses, features.dtype)
    return (times_N * squared_N).mean()


# L_inter: the centres of different identities are pushed apart (eq. 12).

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
        distinct: Number of different identities, where it is known; otherwise counting synchronises a GPU.

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
