"""Means of features by group, as many of the losses need them."""

import torch
from torch import Tensor


def centres(features: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Mean feature of each group.

    Args:
        features: (N, D).
        groups: (N,) integers, any values.

    Returns:
        Centres (G, D) in ascending order of the group's number, and for each row its centre's index (N,).
    """
    _, index_N = torch.unique(groups, return_inverse=True)
    count = int(index_N.max()) + 1
    member_GN = (index_N[None, :] == torch.arange(count, device=groups.device)[:, None]).to(features.dtype)
    return (member_GN @ features) / member_GN.sum(dim=1, keepdim=True), index_N


def class_and_subclass_centres(
    features: Tensor, identities: Tensor, subclasses: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Centres of the two levels of Cascaded Aggregation, from the batch.

    A class centre is the mean of its sub-class centres of both modalities: this is what pulls the modalities
    together (section 3.4).

    Args:
        features: (N, D).
        identities: (N,).
        subclasses: (N,) numbers; each sub-class belongs to one identity.

    Returns:
        Sub-class centres (S, D), class centres (I, D), and for each sub-class its class's index (S,).
    """
    subclass_SD, index_N = centres(features, subclasses)
    identity_S = torch.empty(len(subclass_SD), dtype=identities.dtype, device=identities.device)
    identity_S[index_N] = identities
    class_ID, class_of_S = centres(subclass_SD, identity_S)
    return subclass_SD, class_ID, class_of_S
