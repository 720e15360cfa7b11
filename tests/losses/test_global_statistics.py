import numpy as np
import pytest
import torch

from msclnet.losses.complement import global_loss


def test_two_identities_by_hand():
    synergistic = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 5.0]])
    infrared = torch.tensor([[1.0, 1.0], [1.0, 3.0], [5.0, 2.0]])
    # centres (1, 0) and (1, 2): 4; (5, 5) and (5, 2): 9
    assert global_loss(synergistic, infrared, torch.tensor([8, 8, 3])).item() == pytest.approx((4 + 9) / 2)


def test_equals_a_loop_over_the_identities():
    generator = np.random.default_rng(0)
    synergistic, infrared = generator.standard_normal((2, 11, 6))
    identities = np.array([4, 1, 1, 9, 4, 4, 9, 0, 1, 4, 9])
    distances = []
    for identity in set(identities.tolist()):
        rows = identities == identity
        distances.append(((synergistic[rows].mean(0) - infrared[rows].mean(0)) ** 2).sum())
    loss = global_loss(torch.tensor(synergistic), torch.tensor(infrared), torch.tensor(identities))
    assert loss.item() == pytest.approx(np.mean(distances))


def test_zero_for_equal_centres_of_different_features():
    synergistic = torch.tensor([[0.0, 1.0], [2.0, 3.0]], requires_grad=True)
    loss = global_loss(synergistic, torch.tensor([[1.0, 5.0], [1.0, -1.0]]), torch.tensor([2, 2]))
    loss.backward()
    assert loss.item() == 0
    assert synergistic.grad is not None
    assert not synergistic.grad.any()


def test_unit_vectors_are_at_most_four_apart():
    one = torch.nn.functional.normalize(torch.randn(64, 5, generator=torch.Generator().manual_seed(0)))
    identities = torch.arange(64)
    assert global_loss(one, -one, identities).item() == pytest.approx(4, rel=1e-5)


def test_300_steps_bring_the_centres_together():
    generator = torch.Generator().manual_seed(1)
    synergistic = torch.randn(12, 8, generator=generator, requires_grad=True)
    infrared = torch.nn.functional.normalize(torch.randn(12, 8, generator=generator))
    identities = torch.arange(4).repeat_interleave(3)
    optimizer = torch.optim.SGD([synergistic], lr=1.0, momentum=0.9)
    norm_at_start = synergistic.norm().item()
    first, loss = None, torch.tensor(0.0)
    for _ in range(300):
        loss = global_loss(torch.nn.functional.normalize(synergistic), infrared, identities)
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first is not None
    assert loss.item() < 0.01 * first
    assert 0.5 * norm_at_start < synergistic.norm().item() < 3 * norm_at_start
