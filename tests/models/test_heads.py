"""The BNNeck in numpy, and the modalities' instance norm against torch's."""

import numpy as np
import pytest
import torch
from torch import nn

from msclnet.models.heads import BNNeck, ModalityNorm
from msclnet.models.pooling import average_parts, instance_normalised_parts


def test_what_is_trained_and_what_is_not():
    neck = BNNeck(8, 5)
    assert [name for name, p in neck.named_parameters() if p.requires_grad] == [
        "norm.weight",
        "classifier.weight",
    ]
    assert not neck.norm.bias.any()
    assert neck.classifier.bias is None
    assert neck.classifier.weight.shape == (5, 8)


def test_training_normalises_by_the_batch():
    torch.manual_seed(0)
    neck = BNNeck(8, 5).train()
    features = torch.randn(16, 8) * 7 + 30
    normalised, logits = neck(features)
    x = features.numpy().astype(np.float64)
    weight = neck.norm.weight.detach().numpy()
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * weight
    np.testing.assert_allclose(normalised.detach().numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(
        logits.detach().numpy(), expected @ neck.classifier.weight.detach().numpy().T, atol=1e-5
    )


def test_testing_normalises_by_what_training_has_seen():
    neck = BNNeck(3, 2).eval()
    assert neck.norm.running_mean is not None
    assert neck.norm.running_var is not None
    neck.norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    neck.norm.running_var.copy_(torch.tensor([4.0, 1.0, 0.25]))
    torch.nn.init.ones_(neck.norm.weight)
    normalised, _ = neck(torch.tensor([[3.0, 2.0, 4.0]]))
    torch.testing.assert_close(normalised, torch.tensor([[1.0, 0.0, 2.0]]), atol=1e-4, rtol=1e-4)


def test_the_bias_stays_at_zero_through_training_steps():
    torch.manual_seed(0)
    neck = BNNeck(4, 3)
    optimizer = torch.optim.SGD([p for p in neck.parameters() if p.requires_grad], lr=0.5, weight_decay=0.1)
    for _ in range(3):
        nn.functional.cross_entropy(neck(torch.randn(6, 4))[1], torch.tensor([0, 1, 2, 0, 1, 2])).backward()
        optimizer.step()
    assert not neck.norm.bias.any()
    assert (neck.norm.weight - 1).abs().max() > 0.1


def test_start_of_the_weights():
    torch.manual_seed(0)
    neck = BNNeck(2000, 300)
    for values, mean, deviation in ((neck.norm.weight, 1.0, 0.01), (neck.classifier.weight, 0.0, 0.001)):
        assert abs(values.mean().item() - mean) < deviation / 10
        assert 0.9 * deviation < values.std().item() < 1.1 * deviation


@pytest.fixture
def norms() -> tuple[ModalityNorm, nn.InstanceNorm2d]:
    """Ours and torch's, with the same scale and shift."""
    torch.manual_seed(0)
    ours, foreign = ModalityNorm(5), nn.InstanceNorm2d(5, affine=True)
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    foreign.load_state_dict(ours.state_dict())
    return ours, foreign


def test_parts_and_maps_are_those_of_torchs_instance_norm(norms):
    ours, foreign = norms
    maps = torch.rand(3, 5, 6, 4) * 9
    expected = foreign(maps)
    torch.testing.assert_close(ours(maps), expected, atol=1e-5, rtol=1e-5)
    parts = ours.scaled(instance_normalised_parts(maps, parts=3))
    torch.testing.assert_close(parts, average_parts(expected, parts=3), atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_torchs_instance_norm(norms):
    ours, foreign = norms
    weights = torch.randn(3, 2, 5)
    gradients = []
    for norm, parts_of in (
        (ours, lambda maps: ours.scaled(instance_normalised_parts(maps, parts=2))),
        (foreign, lambda maps: average_parts(foreign(maps), parts=2)),
    ):
        maps = torch.linspace(0, 1, 3 * 5 * 6 * 4).square().reshape(3, 5, 6, 4).requires_grad_()
        (parts_of(maps) * weights).sum().backward()
        gradients.append((maps.grad, norm.weight.grad, norm.bias.grad))
    for own, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(own, expected, atol=1e-4, rtol=1e-3)
