"""Section 3.1, the baseline: identity loss and weighted regularised triplet loss."""

import torch
import torch.nn.functional as F
from torch import Tensor


def identity_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy.

    Source: the baseline's L_id (AGW); eq. 4 of MSCLNet when given the logits of the instance-normalised
    features and the labels themselves.

    Args:
        logits: (N, K).
        labels: (N,) in [0, K).
    """
    return F.cross_entropy(logits, labels)


FORMS = ("clean", "agw")


def weighted_regularised_triplet_loss(features: Tensor, identities: Tensor, *, form: str = "agw") -> Tensor:
    """softplus(weighted positive distance - weighted negative distance), mean over all anchors.

    Distances are Euclidean; positives are weighted by softmax(+d), negatives by softmax(-d); no margin.

    Args:
        features: (N, D), both modalities together, not normalised.
        identities: (N,).
        form: `clean` is the formula. `agw` is what AGW's published results were made with: the anchor counts
            among its own positives, the softmax subtracts the maximum over the masked row with its zeros, and
            divides by (sum + 1e-6). There, the weights of the negatives vanish at large distances.

    Raises:
        ValueError: `form` is unknown, or an anchor has no positive or no negative. The latter is checked on
            the CPU alone: the check would synchronise a GPU at each step.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {FORMS}, not {form!r}")
    distances_NN = euclidean_distances(features)
    same_NN = identities[:, None] == identities[None, :]
    oneself_NN = torch.eye(len(same_NN), dtype=torch.bool, device=same_NN.device)
    positive_NN = same_NN if form == "agw" else same_NN & ~oneself_NN
    negative_NN = ~same_NN
    on_cpu = features.device.type == "cpu"
    if on_cpu and not (positive_NN.any(dim=1).all() and negative_NN.any(dim=1).all()):
        raise ValueError("every anchor needs a positive and a negative: take a batch of several identities")
    softmax = _agw_softmax if form == "agw" else _softmax
    positive_N = (softmax(distances_NN, positive_NN) * distances_NN).sum(dim=1)
    negative_N = (softmax(-distances_NN, negative_NN) * distances_NN).sum(dim=1)
    return F.softplus(positive_N - negative_N).mean()


def euclidean_distances(features: Tensor) -> Tensor:
    """(N, D) -> (N, N), differentiable at 0 as well."""
    squares = features.square().sum(dim=1)
    squared_NN = squares[:, None] + squares[None, :] - 2 * features @ features.T
    return squared_NN.clamp(min=1e-12).sqrt()


def _softmax(values_NN: Tensor, mask_NN: Tensor) -> Tensor:
    return values_NN.masked_fill(~mask_NN, float("-inf")).softmax(dim=1)


def _agw_softmax(values_NN: Tensor, mask_NN: Tensor) -> Tensor:
    # Masked before the exponential as well: far outside the mask it would be infinite, and infinity times 0 is NaN.
    values_NN = values_NN * mask_NN
    highest_N1 = values_NN.amax(dim=1, keepdim=True)
    exponentials_NN = (values_NN - highest_N1).exp() * mask_NN
    return exponentials_NN / (exponentials_NN.sum(dim=1, keepdim=True) + 1e-6)
