"""The losses, one file for each section of the paper; `objective` weighs and sums them."""

from msclnet.losses.baseline import identity_loss, weighted_regularised_triplet_loss
from msclnet.losses.cascade import inter_loss, intra_loss, sub_loss
from msclnet.losses.complement import global_loss, local_loss
from msclnet.losses.objective import Objective
from msclnet.losses.synergy import divergence_loss, soft_target_loss

__all__ = [
    "Objective",
    "divergence_loss",
    "global_loss",
    "identity_loss",
    "inter_loss",
    "intra_loss",
    "local_loss",
    "soft_target_loss",
    "sub_loss",
    "weighted_regularised_triplet_loss",
]
