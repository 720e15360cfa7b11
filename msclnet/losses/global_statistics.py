"""L_global: the synergistic feature learns global statistics from the infrared centres (eq. 7)."""

from torch import Tensor

from msclnet.losses.class_centres import centres, group_sizes


def global_loss(synergistic: Tensor, infrared: Tensor, identities: Tensor) -> Tensor:
    """Squared distance of the synergistic and the infrared class centre, mean over the batch's identities.

    Args:
        synergistic: (N, D). Give L2-normalised features; raw ones are the printed form, which does not fall,
            for f^s is bounded by tanh and f^r is not.
        infrared: (N, D).
        identities: (N,) of both, in the same order.
    """
    squared_N = (centres(synergistic, identities) - centres(infrared, identities)).square().sum(dim=1)
    share_N = 1 / group_sizes(identities, squared_N.dtype)  # each identity counts once, whatever its rows
    return (share_N * squared_N).sum() / share_N.sum()
