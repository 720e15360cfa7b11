"""300 steps of SGD on free features: the default forms come to rest, the printed cascade does not.

Each of the bounded forms is also run alone where its own tests are; here are the triplet, the soft target and the
cascade, whose printed form is homogeneous of degree 2.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from msclnet.losses.baseline import identity_loss, weighted_regularised_triplet_loss
from msclnet.losses.cascade import inter_loss, intra_loss, sub_loss
from msclnet.losses.synergy import soft_target_loss

# 8 identities, 3 visible and 3 infrared images of each; 4 cameras, the last two of which are infrared
IDENTITIES = torch.arange(8).repeat_interleave(6)
CAMERAS = torch.tensor([0, 0, 1, 2, 2, 3]).repeat(8)
SUBCLASSES = IDENTITIES * 4 + CAMERAS


def cascade(features: Tensor, *, form: str) -> Tensor:
    return (
        sub_loss(features, SUBCLASSES)
        + intra_loss(features, IDENTITIES, SUBCLASSES)
        + inter_loss(features, IDENTITIES, SUBCLASSES, form=form)
    )


def optimise(
    loss_of: Callable[[Tensor], Tensor], *, rate: float, norm: float = 1.0
) -> tuple[list[float], list[float]]:
    """300 steps from features of the given mean norm; losses and mean norms on the way."""
    start = F.normalize(torch.randn(48, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    start *= norm
    features = start.requires_grad_(True)
    optimizer = torch.optim.SGD([features], lr=rate, momentum=0.9)
    losses, norms = [], []
    for _ in range(300):
        loss = loss_of(features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        norms.append(features.detach().norm(dim=1).mean().item())
        assert torch.isfinite(loss)
    return losses, norms


@pytest.mark.parametrize("norm", [1.0, 14.0])
def test_the_normalised_cascade_comes_to_rest(norm):
    losses, norms = optimise(lambda f: cascade(F.normalize(f), form="hinge"), rate=0.5 * norm**2, norm=norm)
    assert all(0 <= loss < 8 for loss in losses)
    assert losses[-1] < 0.05 * losses[0]
    assert max(norms) < 3 * norm
    assert min(norms) > 0.9 * norm  # the gradient of a direction never shortens


def test_the_printed_cascade_runs_off():
    # the loss stays a number all the way: a look for NaN alone finds nothing wrong
    losses, norms = optimise(lambda f: cascade(f, form="negative"), rate=0.5)
    assert norms[-1] > 1e6
    assert losses[-1] < -1e12


def test_the_printed_cascade_is_homogeneous_of_degree_two_and_the_default_of_degree_zero():
    features = torch.randn(48, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(cascade(3 * features, form="negative"), 9 * cascade(features, form="negative"))
    torch.testing.assert_close(
        cascade(F.normalize(3 * features), form="hinge"), cascade(F.normalize(features), form="hinge")
    )


def test_sub_and_intra_alone_shrink_raw_features_towards_one_point_for_each_identity():
    spread = []

    def loss_of(features: Tensor) -> Tensor:
        spread.append(features.detach().reshape(8, 6, 16).std(dim=1).mean().item())
        return sub_loss(features, SUBCLASSES) + intra_loss(features, IDENTITIES, SUBCLASSES)

    optimise(loss_of, rate=0.5)
    assert spread[-1] < 0.05 * spread[0]


@pytest.mark.parametrize("form", ["clean", "agw"])
@pytest.mark.parametrize("norm", [1.0, 20.0])
def test_the_triplet_loss_is_stable(form, norm):
    losses, norms = optimise(
        lambda f: weighted_regularised_triplet_loss(f, IDENTITIES, form=form), rate=1.0, norm=norm
    )
    assert losses[-1] < losses[0]
    assert all(loss >= 0 for loss in losses)
    assert max(norms) < 100


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_identity_and_soft_target_are_stable(temperature):
    teacher = 6 * F.one_hot(IDENTITIES, 16).double()
    losses, norms = optimise(
        lambda f: identity_loss(f, IDENTITIES) + soft_target_loss(f, teacher, temperature=temperature),
        rate=1.0,
    )
    assert losses[-1] < 0.5 * losses[0]
    assert max(norms) < 100


def test_the_whole_of_the_default_terms_is_stable():
    def loss_of(features: Tensor) -> Tensor:
        return (
            weighted_regularised_triplet_loss(features, IDENTITIES, form="agw")
            + identity_loss(features, IDENTITIES)
            + 3 * cascade(F.normalize(features), form="hinge")
        )

    losses, norms = optimise(loss_of, rate=0.3)
    assert losses[-1] < 0.5 * losses[0]
    assert max(norms) < 100
