"""L_sub: features gather at the centre of their identity and camera (eq. 10)."""

from torch import Tensor

from msclnet.losses.class_centres import centres


def sub_loss(features: Tensor, subclasses: Tensor) -> Tensor:
    """Squared distance of each feature to the centre of its sub-class, mean over the features.

    A sub-class with one image in the batch contributes 0.

    Args:
        features: (N, D). Give L2-normalised features: on raw ones (the printed form) the cascade shrinks all
            features to 0 or runs off.
        subclasses: (N,) numbers of identity x camera.
    """
    return (features - centres(features, subclasses)).square().sum(dim=1).mean()
