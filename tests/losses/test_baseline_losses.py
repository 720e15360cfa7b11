"""L_id and L_wrt against loops over the rows and anchors, and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax

from msclnet.losses.baseline import (
    euclidean_distances,
    identity_loss,
    weighted_regularised_triplet_loss,
)

FORMS = ("clean", "agw")


def test_the_identity_loss_equals_a_loop_over_the_rows():
    logits = np.random.default_rng(0).standard_normal((7, 5)) * 4
    labels = [0, 4, 2, 2, 1, 3, 4]
    expected = 0.0
    for row, label in zip(logits, labels, strict=True):
        expected -= math.log(math.exp(row[label]) / sum(math.exp(value) for value in row)) / len(labels)
    assert identity_loss(torch.tensor(logits), torch.tensor(labels)).item() == pytest.approx(expected)
    nothing_known = identity_loss(torch.zeros(3, 395), torch.tensor([0, 7, 394]))
    assert nothing_known.item() == pytest.approx(math.log(395))


def test_very_large_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = identity_loss(logits, torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, -1.0, 0.0]]))


def naive_loss(features: np.ndarray, identities: list[int], *, form: str) -> float:
    """One anchor after another, in double precision."""
    total = 0.0
    for i, anchor in enumerate(features):
        distances = [math.sqrt(sum((a - b) ** 2 for a, b in zip(anchor, x, strict=True))) for x in features]
        positives = [
            d for j, d in enumerate(distances) if identities[j] == identities[i] and (form == "agw" or j != i)
        ]
        negatives = [d for j, d in enumerate(distances) if identities[j] != identities[i]]
        if form == "agw":
            # the masked row holds a zero wherever the other kind stands: for +d that never is the maximum,
            # for -d it always is
            top_positive, top_negative, epsilon = max([*positives, 0.0]), 0.0, 1e-6
        else:
            top_positive, top_negative, epsilon = max(positives), -min(negatives), 0.0
        p = [math.exp(d - top_positive) for d in positives]
        n = [math.exp(-d - top_negative) for d in negatives]
        hard_positive = sum(w * d for w, d in zip(p, positives, strict=True)) / (sum(p) + epsilon)
        hard_negative = sum(w * d for w, d in zip(n, negatives, strict=True)) / (sum(n) + epsilon)
        total += math.log1p(math.exp(hard_positive - hard_negative))
    return total / len(features)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_equals_a_loop_over_the_anchors(form, scale):
    features = np.random.default_rng(1).standard_normal((12, 5)) * scale
    identities = [0, 0, 0, 7, 7, 7, 7, 3, 3, 5, 5, 5]
    loss = weighted_regularised_triplet_loss(torch.tensor(features), torch.tensor(identities), form=form)
    # a distance of an anchor to itself is rounded to 1e-6 instead of 0
    assert loss.item() == pytest.approx(naive_loss(features, identities, form=form), rel=1e-5)


def test_four_points_on_a_line():
    features = torch.tensor([[0.0], [2.0], [3.0], [5.0]], dtype=torch.float64)
    identities = torch.tensor([0, 0, 1, 1])

    def soft_minimum(a: float, b: float) -> float:
        return (a * math.exp(-a) + b * math.exp(-b)) / (math.exp(-a) + math.exp(-b))

    outer = math.log1p(math.exp(2 - soft_minimum(3, 5)))
    inner = math.log1p(math.exp(2 - soft_minimum(1, 3)))
    loss = weighted_regularised_triplet_loss(features, identities, form="clean")
    assert loss.item() == pytest.approx((outer + inner) / 2, rel=1e-6)


def test_the_anchor_counts_among_its_own_positives_in_the_agw_form_alone():
    # Two positives at distance 2: a single other positive has weight 1; with the anchor beside it
    # (distance 0) it has e^2 / (e^2 + 1), so that the positive distance shrinks.
    features = torch.tensor([[0.0], [2.0], [300.0], [302.0]], dtype=torch.float64)
    identities = torch.tensor([0, 0, 1, 1])
    weight = math.exp(2) / (math.exp(2) + 1)
    agw = weighted_regularised_triplet_loss(features, identities, form="agw")
    assert agw.item() == pytest.approx(math.log1p(math.exp(2 * weight)), rel=1e-5)
    # 300 away the clean form has nothing left to do
    clean = weighted_regularised_triplet_loss(features, identities, form="clean")
    assert clean.item() == pytest.approx(0, abs=1e-12)


def test_weights_of_the_negatives_vanish_at_large_distances_in_the_agw_form_alone():
    identities = torch.tensor([0, 0, 1, 1, 2, 2])
    near = torch.tensor(np.random.default_rng(2).standard_normal((6, 4)))
    offset, moved = torch.zeros(2, 6, 4, dtype=torch.float64)
    offset[2:4, 0], offset[4:, 1] = 60.0, 60.0
    moved[4:, 1] = 5.0  # the third identity a little farther away
    far = near + offset

    def loss(features: torch.Tensor, form: str) -> float:
        return weighted_regularised_triplet_loss(features, identities, form=form).item()

    assert abs(loss(near + moved, "agw") - loss(near, "agw")) > 1e-2
    assert abs(loss(far + moved, "agw") - loss(far, "agw")) < 1e-9
    # In the agw form a distant negative does not even spare the anchor its positive distance.
    total = 0.0
    for i, anchor in enumerate(far.numpy()):
        distances = np.linalg.norm(anchor - far.numpy()[identities == identities[i]], axis=1)
        total += math.log1p(math.exp(softmax(distances) @ distances))
    assert loss(far, "agw") == pytest.approx(total / 6, rel=1e-5)
    assert loss(far, "clean") < 1e-12


def test_the_small_constant_counts_where_the_negatives_are_far():
    # e^-d = 1e-6 at d = 13.8: there the single negative has weight 1/2.
    distance = -math.log(1e-6)
    features = torch.tensor([[0.0], [0.0], [distance], [distance]], dtype=torch.float64)
    loss = weighted_regularised_triplet_loss(features, torch.tensor([0, 0, 1, 1]), form="agw")
    # two negatives of e^-d each: 2e-6 / (2e-6 + 1e-6) = 2/3
    assert loss.item() == pytest.approx(math.log1p(math.exp(-distance * 2 / 3)), rel=1e-4)


def test_rows_may_stand_in_any_order():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(10, 6, generator=generator)
    identities = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    order = torch.randperm(10, generator=generator)
    for form in ("clean", "agw"):
        torch.testing.assert_close(
            weighted_regularised_triplet_loss(features, identities, form=form),
            weighted_regularised_triplet_loss(features[order], identities[order], form=form),
        )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 1e3])
def test_gradients_are_finite_even_where_features_coincide(form, scale):
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(3)) * scale
    features[1] = features[0]
    features.requires_grad_(True)
    loss = weighted_regularised_triplet_loss(features, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), form=form)
    loss.backward()
    assert features.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_equals_finite_differences(form):
    features = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    features.requires_grad_(True)
    identities = torch.tensor([0, 0, 1, 1, 2, 2])
    assert torch.autograd.gradcheck(
        lambda x: weighted_regularised_triplet_loss(x, identities, form=form), (features,), atol=1e-6
    )


@pytest.mark.parametrize("form", FORMS)
def test_negatives_much_farther_than_every_positive_leave_a_number(form):
    # e^(200 - 1) is beyond float32: what the mask hides must not be exponentiated unmasked
    features = torch.tensor([[0.0], [1.0], [200.0], [201.0]], requires_grad=True)
    loss = weighted_regularised_triplet_loss(features, torch.tensor([0, 0, 1, 1]), form=form)
    loss.backward()
    # clean: softplus(1 - 200); agw: the anchor's own distance takes part and the negatives weigh nothing
    expected = 0.0 if form == "clean" else math.log1p(math.exp(math.e / (math.e + 1)))
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_distances_equal_numpy():
    features = np.random.default_rng(5).standard_normal((9, 4))
    expected = np.linalg.norm(features[:, None] - features[None, :], axis=2)
    np.testing.assert_allclose(euclidean_distances(torch.tensor(features)).numpy(), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("identities", "form", "words"),
    [
        ([0, 0, 0, 0], "agw", "positive and a negative"),
        ([0, 0, 1, 2], "clean", "positive and a negative"),
        ([0, 0, 1, 1], "AGW", "form must be one of"),
    ],
)
def test_batches_without_a_positive_or_a_negative_are_refused(identities, form, words):
    with pytest.raises(ValueError, match=words):
        weighted_regularised_triplet_loss(torch.randn(4, 2), torch.tensor(identities), form=form)
