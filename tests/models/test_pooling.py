"""GeM and part pooling against loops and closed forms; pooling in one go against the poolings one by one."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from msclnet.models import pooling
from msclnet.models.pooling import (
    PooledMaps,
    average_parts,
    gem,
    gem_parts,
    instance_normalised_parts,
    pool_maps,
)


def random_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).uniform(0.01, 3, shape))


def test_an_exponent_of_one_is_the_mean():
    maps = random_maps(2, 5, 4, 3)
    torch.testing.assert_close(gem(maps, p=1.0), maps.mean(dim=(2, 3)))


def test_the_cube_by_hand():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]]]])
    assert gem(maps, p=3.0).item() == pytest.approx(((1 + 8 + 27) / 4) ** (1 / 3))


def test_grows_with_the_exponent_up_to_the_maximum():
    maps = random_maps(2, 5, 4, 3)
    for lower, higher in pairwise(gem(maps, p=p) for p in (1.0, 2.0, 3.0, 6.0, 200.0)):
        assert (lower < higher).all()
    highest, pooled = maps.amax(dim=(2, 3)), gem(maps, p=200.0)
    assert (pooled <= highest * (1 + 1e-9)).all()
    assert (pooled >= highest * (1 / 12) ** (1 / 200) * (1 - 1e-9)).all()


def test_negative_values_count_as_zero():
    maps = random_maps(2, 3, 4, 2) - 1.5
    torch.testing.assert_close(gem(maps, p=3.0), gem(maps.relu(), p=3.0))
    torch.testing.assert_close(gem_parts(maps, p=3.0, parts=2), gem_parts(maps.relu(), p=3.0, parts=2))


@pytest.mark.parametrize("p", [1.0, 3.0, 6.0])
@pytest.mark.parametrize("value", [0.0, 1e-20, 2e-6, 3e-5, 1e-3])
def test_channels_that_hardly_fire_have_finite_gradients(p, value):
    # float32 ends at 1e-38: a power that falls below it has no root to take the gradient of
    for pool in (one_by_one, pool_maps):
        maps = torch.full((1, 2, 4, 2), value, requires_grad=True)
        pooled = pool(maps, p=p, parts=2)
        assert value or pooled.whole.abs().max() < 1e-4
        (pooled.whole.sum() + pooled.parts.sum() + pooled.normalised_parts.sum()).backward()
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


def test_equal_parts_together_give_the_whole():
    maps = random_maps(2, 3, 12, 4)
    torch.testing.assert_close(average_parts(maps, parts=6).mean(dim=1), maps.mean(dim=(2, 3)))
    of_parts = gem_parts(maps, p=3.0, parts=6).pow(3).mean(dim=1).pow(1 / 3)
    torch.testing.assert_close(of_parts, gem(maps, p=3.0))


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


def one_by_one(maps: Tensor, *, p: float, parts: int) -> PooledMaps:
    return PooledMaps(
        gem(maps, p=p), gem_parts(maps, p=p, parts=parts), instance_normalised_parts(maps, parts=parts)
    )


def signed_maps(*shape: int) -> Tensor:
    return torch.tensor(np.random.default_rng(0).normal(size=shape))


READERS: dict[str, Callable[[PooledMaps], Tensor]] = {
    "whole": lambda pooled: pooled.whole.sin().sum(),
    "parts": lambda pooled: pooled.parts.cos().sum(),
    "normalised parts": lambda pooled: pooled.normalised_parts.square().sin().sum(),
    "all": lambda pooled: (pooled.whole * pooled.parts.mean(1) * pooled.normalised_parts[:, 0]).sin().sum(),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("p", [1.0, 1.5, 3.0, 6.0])
@pytest.mark.parametrize("images_at_a_time", [1, 2, 5])
def test_equals_the_poolings_one_by_one_with_their_gradient(read, p, images_at_a_time, monkeypatch):
    monkeypatch.setattr(pooling, "CHUNK", images_at_a_time * 3 * 12 * 4)
    results = []
    for pool in (pool_maps, one_by_one):
        maps = signed_maps(5, 3, 12, 4).requires_grad_()
        pooled = pool(maps, p=p, parts=6)
        results.append(
            (pooled.whole, pooled.parts, pooled.normalised_parts, *torch.autograd.grad(read(pooled), maps))
        )
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("p", [1.0, 3.0])
def test_the_gradient_is_the_difference_quotient(p):
    maps = signed_maps(2, 2, 6, 2).requires_grad_()
    torch.autograd.gradcheck(
        lambda maps: tuple(vars(pool_maps(maps, p=p, parts=3)).values()), maps, eps=1e-6, atol=1e-6
    )


def test_strips_that_share_a_row_are_pooled_as_ever():
    ours, expected = (pool(signed_maps(2, 3, 9, 4), p=3.0, parts=6) for pool in (pool_maps, one_by_one))
    for name, value in vars(ours).items():
        torch.testing.assert_close(value, getattr(expected, name))


def test_channels_last_in_memory_changes_nothing():
    maps = signed_maps(2, 3, 12, 4)
    last = maps.contiguous(memory_format=torch.channels_last)
    for pool in (pool_maps, one_by_one):
        for name, value in vars(pool(last, p=3.0, parts=6)).items():
            torch.testing.assert_close(value, getattr(pool(maps, p=3.0, parts=6), name))


def test_an_image_is_pooled_alike_in_any_batch():
    maps = signed_maps(5, 3, 12, 4).float()
    together, alone = (pool_maps(rows, p=3.0, parts=6) for rows in (maps, maps[3:4]))
    for name, value in vars(alone).items():
        torch.testing.assert_close(value, getattr(together, name)[3:4])
