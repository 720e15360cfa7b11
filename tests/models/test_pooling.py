from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from msclnet.models.pooling import (
    average_parts,
    gem,
    gem_parts,
    instance_normalised_parts,
)


def random_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).uniform(0.01, 3, shape))


def test_an_exponent_of_one_is_the_mean():
    maps = random_maps(2, 5, 4, 3)
    torch.testing.assert_close(gem(maps, p=1.0), maps.mean(dim=(2, 3)))


def test_a_large_exponent_comes_near_the_maximum():
    maps = random_maps(2, 5, 4, 3)
    highest = maps.amax(dim=(2, 3))
    # (1/12)^(1/p) max <= GeM <= max
    pooled = gem(maps, p=200.0)
    assert (pooled <= highest * (1 + 1e-9)).all()
    assert (pooled >= highest * (1 / 12) ** (1 / 200) * (1 - 1e-9)).all()


def test_the_cube_by_hand():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]]]])
    assert gem(maps, p=3.0).item() == pytest.approx(((1 + 8 + 27) / 4) ** (1 / 3))


def test_grows_with_the_exponent():
    maps = random_maps(3, 4, 6, 2)
    pooled = [gem(maps, p=p) for p in (1.0, 2.0, 3.0, 6.0)]
    for lower, higher in pairwise(pooled):
        assert (lower < higher).all()


def test_negative_values_count_as_zero():
    maps = random_maps(2, 3, 4, 2) - 1.5
    torch.testing.assert_close(gem(maps, p=3.0), gem(maps.relu(), p=3.0))
    torch.testing.assert_close(gem_parts(maps, p=3.0, parts=2), gem_parts(maps.relu(), p=3.0, parts=2))


@pytest.mark.parametrize("p", [1.0, 3.0])
def test_maps_of_zeros_stay_near_zero_with_a_finite_gradient(p):
    maps = torch.zeros(2, 3, 4, 2, requires_grad=True)
    pooled = gem(maps, p=p)
    assert pooled.abs().max() < 1e-4
    (pooled.sum() + gem_parts(maps, p=p, parts=2).sum()).backward()
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()


@pytest.mark.parametrize("p", [1.0, 3.0, 6.0])
@pytest.mark.parametrize("value", [1e-20, 1e-7, 2e-6, 3e-5, 1e-3])
def test_channels_that_hardly_fire_have_finite_gradients(p, value):
    # float32 ends at 1e-38: a power that falls below it has no root to take the gradient of
    maps = torch.full((1, 2, 4, 2), value, requires_grad=True)
    (gem(maps, p=p).sum() + gem_parts(maps, p=p, parts=2).sum()).backward()
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()


def strips(height: int, parts: int) -> list[tuple[int, int]]:
    """First row and row after the last one: the rows that a strip touches, even in part."""
    return [(int(np.floor(j * height / parts)), int(np.ceil((j + 1) * height / parts))) for j in range(parts)]


@pytest.mark.parametrize(("height", "parts"), [(18, 6), (6, 6), (12, 6), (9, 6), (7, 3), (2, 6), (5, 1)])
def test_parts_equal_a_loop_over_the_strips(height, parts):
    maps = random_maps(2, 3, height, 4) - 1
    mean, generalised = average_parts(maps, parts=parts), gem_parts(maps, p=3.0, parts=parts)
    assert mean.shape == generalised.shape == (2, parts, 3)
    positive = np.maximum(maps.numpy(), 0)
    for part, (first, last) in enumerate(strips(height, parts)):
        np.testing.assert_allclose(mean[:, part], maps.numpy()[:, :, first:last].mean((2, 3)), atol=1e-12)
        cubes = (positive[:, :, first:last] ** 3).mean((2, 3)) ** (1 / 3)
        np.testing.assert_allclose(generalised[:, part], cubes, atol=1e-4, rtol=1e-6)


def test_strips_share_a_row_only_where_the_height_is_no_multiple():
    def rows_of_each_part(height: int) -> list[list[int]]:
        maps = torch.eye(height).reshape(1, height, height, 1)  # channel c is 1 in row c alone
        return [torch.nonzero(part).flatten().tolist() for part in average_parts(maps, parts=6)[0]]

    assert rows_of_each_part(12) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    assert rows_of_each_part(9) == [[0, 1], [1, 2], [3, 4], [4, 5], [6, 7], [7, 8]]


def test_the_first_part_is_the_head():
    maps = torch.zeros(1, 1, 6, 2)
    maps[0, 0, 0] = 5.0
    assert average_parts(maps, parts=6)[0, :, 0].tolist() == [5.0, 0, 0, 0, 0, 0]


def test_equal_parts_together_give_the_whole():
    maps = random_maps(2, 3, 12, 4)
    torch.testing.assert_close(average_parts(maps, parts=6).mean(dim=1), maps.mean(dim=(2, 3)))
    of_parts = gem_parts(maps, p=3.0, parts=6).pow(3).mean(dim=1).pow(1 / 3)
    torch.testing.assert_close(of_parts, gem(maps, p=3.0))


def test_signed_values_survive_the_average():
    maps = -random_maps(1, 2, 6, 3)
    assert (average_parts(maps, parts=3) < 0).all()


@pytest.mark.parametrize(("height", "parts"), [(12, 6), (9, 6), (5, 1)])
def test_parts_of_normalised_maps_need_no_normalised_maps(height, parts):
    norm = nn.InstanceNorm2d(3).double()
    gradients = []
    for parts_of in (
        lambda maps: average_parts(norm(maps), parts=parts),
        lambda maps: instance_normalised_parts(maps, parts=parts),
    ):
        maps = (random_maps(2, 3, height, 4) - 1).requires_grad_()
        averages = parts_of(maps)
        gradients.append((averages, *torch.autograd.grad(averages.sin().sum(), maps)))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected)


def test_channels_last_in_memory_changes_no_vector():
    maps = random_maps(2, 3, 12, 4) - 1
    last = maps.contiguous(memory_format=torch.channels_last)
    for pool in (gem, lambda x, p: gem_parts(x, p=p, parts=6), lambda x, p: average_parts(x, parts=6)):
        torch.testing.assert_close(pool(last, p=3.0), pool(maps, p=3.0))
