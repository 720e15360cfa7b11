"""L_intra: the centres of an identity's cameras, of both modalities, gather at the identity's centre (eq. 11)."""

import torch
from torch import Tensor

from msclnet.losses.class_centres import class_and_subclass_centres


def intra_loss(features: Tensor, identities: Tensor, subclasses: Tensor) -> Tensor:
    """Squared distances of an identity's sub-class centres to its class centre: sum over them, mean over samples.

    Args:
        features: (N, D), L2-normalised; raw ones are the printed form.
        identities: (N,).
        subclasses: (N,) numbers of identity x camera.
    """
    subclass_SD, class_ID, class_of_S = class_and_subclass_centres(features, identities, subclasses)
    squared_S = (subclass_SD - class_ID[class_of_S]).square().sum(dim=1)
    sum_I = squared_S.new_zeros(len(class_ID)).index_add(0, class_of_S, squared_S)
    _, index_N = torch.unique(identities, return_inverse=True)
    return sum_I[index_N].mean()
