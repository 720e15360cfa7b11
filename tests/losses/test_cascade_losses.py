"""The three losses of Cascaded Aggregation against loops over sub-classes, classes and pairs."""

from itertools import combinations

import numpy as np
import pytest
import torch

from msclnet.losses.cascade import (
    centres,
    class_centres,
    first_rows,
    group_sizes,
    inter_loss,
    intra_loss,
    sub_loss,
)

# Two identities; the first has two cameras with two and one images, the second has two with one each.
HAND = torch.tensor([[0.0, 0.0], [2.0, 0.0], [3.0, 4.0], [10.0, 0.0], [10.0, 6.0]])
HAND_IDENTITIES = torch.tensor([5, 5, 5, 2, 2])
HAND_SUBCLASSES = torch.tensor([51, 51, 53, 20, 29])


class Batch:
    """Features in double precision with identities and sub-classes of uneven sizes."""

    def __init__(self, seed: int = 0, *, scale: float = 1.0) -> None:
        generator = np.random.default_rng(seed)
        self.identities = generator.choice([3, 11, 12, 40], size=30)
        self.subclasses = self.identities * 10 + generator.integers(0, 3, size=30)
        self.features = generator.standard_normal((30, 7)) * scale

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return torch.tensor(self.features), torch.tensor(self.identities), torch.tensor(self.subclasses)

    def subclass_centres(self, identity: int) -> dict[int, np.ndarray]:
        return {
            s: self.features[self.subclasses == s].mean(0)
            for s in sorted(set(self.subclasses[self.identities == identity].tolist()))
        }

    def class_centre(self, identity: int) -> np.ndarray:
        """The mean of the sub-class centres, not of the images: a camera with many images has no more say."""
        return np.mean(list(self.subclass_centres(identity).values()), axis=0)


def test_centres_by_hand():
    expected = [[1.0, 0.0], [1.0, 0.0], [3.0, 4.0], [10.0, 0.0], [10.0, 6.0]]
    torch.testing.assert_close(centres(HAND, HAND_SUBCLASSES), torch.tensor(expected))
    expected = [[2.0, 2.0]] * 3 + [[10.0, 3.0]] * 2
    torch.testing.assert_close(class_centres(HAND, HAND_IDENTITIES, HAND_SUBCLASSES), torch.tensor(expected))


def test_groups_by_hand():
    groups = torch.tensor([7, 3, 7, -1, 3, 3, 9])
    assert group_sizes(groups, torch.float64).tolist() == [2, 3, 2, 1, 3, 3, 1]
    assert first_rows(groups).tolist() == [0, 1, 3, 6]
    assert first_rows(groups, count=4).tolist() == [0, 1, 3, 6]


def test_the_three_losses_by_hand():
    # sub: the first two images are 1 away from (1, 0), the other three are alone
    assert sub_loss(HAND, HAND_SUBCLASSES).item() == pytest.approx((1 + 1) / 5)
    # intra: (1, 0) and (3, 4) to (2, 2): 5 + 5; (10, 0) and (10, 6) to (10, 3): 9 + 9
    arguments = (HAND, HAND_IDENTITIES, HAND_SUBCLASSES)
    assert intra_loss(*arguments).item() == pytest.approx((3 * 10 + 2 * 18) / 5)
    # inter: centres (10, 3) and (2, 2), squared distance 65
    assert inter_loss(*arguments, form="negative").item() == pytest.approx(-65)
    assert inter_loss(*arguments, form="hinge", margin=1.0).item() == 0
    assert inter_loss(*arguments, form="hinge", margin=10.0).item() == pytest.approx((10 - 65**0.5) ** 2)


@pytest.mark.parametrize("seed", range(3))
def test_sub_and_intra_equal_loops_averaged_over_the_images(seed):
    batch = Batch(seed)
    features, identities, subclasses = batch.tensors()
    sub = [
        ((feature - batch.features[batch.subclasses == subclass].mean(0)) ** 2).sum()
        for feature, subclass in zip(batch.features, batch.subclasses, strict=True)
    ]
    assert sub_loss(features, subclasses).item() == pytest.approx(np.mean(sub))
    intra = [
        ((centre - batch.class_centre(identity)) ** 2).sum()
        for identity in batch.identities.tolist()
        for centre in batch.subclass_centres(identity).values()
    ]
    assert intra_loss(features, identities, subclasses).item() == pytest.approx(sum(intra) / 30)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("margin", [0.5, 1.0, 3.0])
def test_inter_equals_a_loop_over_the_pairs_of_identities(seed, margin):
    batch = Batch(seed)
    distances = [
        np.linalg.norm(batch.class_centre(a) - batch.class_centre(b))
        for a, b in combinations(sorted(set(batch.identities.tolist())), 2)
    ]
    assert len(distances) == 6
    hinge = np.mean([max(0.0, margin - d) ** 2 for d in distances])
    negative = -np.mean([d**2 for d in distances])
    assert inter_loss(*batch.tensors(), form="hinge", margin=margin).item() == pytest.approx(hinge)
    assert inter_loss(*batch.tensors(), form="negative").item() == pytest.approx(negative)


def test_a_batch_of_single_images_costs_nothing_in_sub_and_moves_nothing():
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = sub_loss(features, torch.arange(8))
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert not features.grad.any()


def test_an_identity_with_one_camera_costs_nothing_in_intra():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    identities = torch.tensor([0, 0, 0, 1, 1, 1])
    assert intra_loss(features, identities, identities).item() == pytest.approx(0, abs=1e-12)


def test_intra_pulls_the_modalities_together():
    # one identity, visible at -1 and infrared at +1: the gradient points inwards on both sides
    features = torch.tensor([[-1.0], [-1.0], [1.0], [1.0]], requires_grad=True)
    loss = intra_loss(features, torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(2)
    assert features.grad is not None
    assert (features.grad.flatten() * features.detach().flatten() > 0).all()


def test_the_hinge_pushes_within_the_margin_and_not_beyond():
    identities = torch.tensor([0, 1])
    for distance, pushes in ((0.4, True), (0.99, True), (1.01, False), (7.0, False)):
        features = torch.tensor([[0.0, 0.0], [distance, 0.0]], requires_grad=True)
        loss = inter_loss(features, identities, identities, form="hinge", margin=1.0)
        loss.backward()
        assert features.grad is not None
        assert loss.item() == pytest.approx(max(0.0, 1 - distance) ** 2, abs=1e-6)
        assert features.grad.any().item() is pushes
        if pushes:
            assert features.grad[0, 0] > 0 > features.grad[1, 0]  # SGD moves them apart


def test_coinciding_class_centres_have_a_finite_gradient():
    features = torch.ones(4, 3, requires_grad=True)
    identities = torch.tensor([0, 0, 1, 1])
    loss = inter_loss(features, identities, identities, form="hinge", margin=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(1, abs=1e-5)
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_only_the_grouping_counts_not_the_numbers_nor_the_order():
    batch = Batch(4)
    features, identities, subclasses = batch.tensors()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    renumbered = (features[order], 1000 - identities[order], 7 * subclasses[order] - 100000)
    for loss in (intra_loss, inter_loss):
        torch.testing.assert_close(loss(features, identities, subclasses), loss(*renumbered))
    torch.testing.assert_close(sub_loss(features, subclasses), sub_loss(renumbered[0], renumbered[2]))


@pytest.mark.parametrize("loss", [intra_loss, inter_loss])
def test_gradients_equal_finite_differences(loss):
    features, identities, subclasses = Batch(5).tensors()
    features.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: loss(x, identities, subclasses), (features,))


def test_mistakes_are_refused():
    identities = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="two identities"):
        inter_loss(torch.randn(3, 2), identities, torch.arange(3))
    with pytest.raises(ValueError, match="form must be one of"):
        inter_loss(HAND, HAND_IDENTITIES, HAND_SUBCLASSES, form="margin")
