import pytest
import torch
from torch import nn

from msclnet.models.heads import ModalityNorm
from msclnet.models.pooling import average_parts, instance_normalised_parts


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
