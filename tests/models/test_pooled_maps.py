from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from msclnet.models import pooling as pooled_maps
from msclnet.models.pooling import PooledMaps, gem, gem_parts, instance_normalised_parts, pool_maps


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
    monkeypatch.setattr(pooled_maps, "CHUNK", images_at_a_time * 3 * 12 * 4)
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
    for name, value in vars(pool_maps(last, p=3.0, parts=6)).items():
        torch.testing.assert_close(value, getattr(pool_maps(maps, p=3.0, parts=6), name))


def test_an_image_is_pooled_alike_in_any_batch():
    maps = signed_maps(5, 3, 12, 4).float()
    together, alone = (pool_maps(rows, p=3.0, parts=6) for rows in (maps, maps[3:4]))
    for name, value in vars(alone).items():
        torch.testing.assert_close(value, getattr(together, name)[3:4])


@pytest.mark.parametrize("value", [0.0, 1e-20, 2e-6, 1e-3])
def test_channels_that_hardly_fire_have_finite_gradients(value):
    maps = torch.full((1, 2, 4, 2), value, requires_grad=True)
    pooled = pool_maps(maps, p=6.0, parts=2)
    (pooled.whole.sum() + pooled.parts.sum() + pooled.normalised_parts.sum()).backward()
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()
