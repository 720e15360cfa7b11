import math

import numpy as np
import pytest
import torch

from msclnet.losses.baseline import identity_loss


def test_equals_a_loop_over_the_rows():
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((7, 5)) * 4
    labels = [0, 4, 2, 2, 1, 3, 4]
    expected = 0.0
    for row, label in zip(logits, labels, strict=True):
        expected -= math.log(math.exp(row[label]) / sum(math.exp(value) for value in row)) / len(labels)
    assert identity_loss(torch.tensor(logits), torch.tensor(labels)).item() == pytest.approx(expected)


def test_logits_that_know_nothing_cost_the_logarithm_of_the_identities():
    assert identity_loss(torch.zeros(3, 395), torch.tensor([0, 7, 394])).item() == pytest.approx(
        math.log(395)
    )


def test_very_large_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = identity_loss(logits, torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, -1.0, 0.0]]))
