"""Means of features by group, as many of the losses need them.

Every shape follows from the number of rows alone, never from what groups a batch happens to hold: a GPU need not be
waited for, and the whole training step can be recorded as a CUDA graph (see msclnet.training.graph).
"""

import torch
from torch import Tensor


def same_group(groups: Tensor) -> Tensor:
    """Which rows share a group.

    Args:
        groups: (N,) integers, any values.

    Returns:
        Boolean (N, N).
    """
    return groups[:, None] == groups[None, :]


def group_sizes(groups: Tensor, dtype: torch.dtype) -> Tensor:
    """For each row the number of rows in its group, (N,)."""
    return same_group(groups).to(dtype).sum(dim=1)


def centres(features: Tensor, groups: Tensor) -> Tensor:
    """For each row the mean feature of its group.

    Args:
        features: (N, D).
        groups: (N,) integers, any values.

    Returns:
        (N, D); rows of a group are equal.
    """
    same_NN = same_group(groups).to(features.dtype)
    return (same_NN @ features) / same_NN.sum(dim=1, keepdim=True)


def class_centres(features: Tensor, identities: Tensor, subclasses: Tensor) -> Tensor:
    """For each row the centre of its class: the mean of the class's sub-class centres, of both modalities.

    This is what pulls the modalities together (section 3.4).

    Args:
        features: (N, D).
        identities: (N,).
        subclasses: (N,) numbers; each sub-class belongs to one identity.

    Returns:
        (N, D); rows of an identity are equal.
    """
    # Each sub-class has a weight of 1, which its rows share.
    share_N = 1 / group_sizes(subclasses, features.dtype)
    weight_NN = same_group(identities).to(features.dtype) * share_N
    return (weight_NN @ features) / weight_NN.sum(dim=1, keepdim=True)


def first_rows(groups: Tensor, *, count: int | None = None) -> Tensor:
    """The first row of each group, in ascending order.

    Args:
        groups: (N,) integers, any values.
        count: Number of groups, where it is known; otherwise the device is asked and waited for.

    Returns:
        (count,).
    """
    before_NN = torch.ones_like(same_group(groups)).tril(-1)
    first_N = ~(same_group(groups) & before_NN).any(dim=1)
    count = int(first_N.sum()) if count is None else count
    return torch.argsort(first_N.to(torch.uint8), descending=True, stable=True)[:count]
