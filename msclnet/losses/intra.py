"""L_intra: the centres of an identity's cameras, of both modalities, gather at the identity's centre (eq. 11)."""

from torch import Tensor

from msclnet.losses.class_centres import centres, class_centres, group_sizes


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
