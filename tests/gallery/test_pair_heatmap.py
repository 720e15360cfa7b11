"""The heat of a pair against the finite difference of its similarity, channel by channel."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from model_specs import network_of, random_images, spec

from msclnet.figures.heatmap import overlay
from msclnet.gallery.pair_heatmap import pair_heat, pair_heatmap
from msclnet.models.network import MSCLNet

PAIR = random_images(2, 288, 144).numpy()
SIDES = (True, False)


@pytest.fixture(scope="module")
def network() -> MSCLNet:
    return network_of(spec(), seed=1).eval()


def maps_of(network: MSCLNet, image: int) -> torch.Tensor:
    batch = torch.from_numpy(PAIR[image])[None]
    with torch.no_grad():
        return network.maps(batch[:0], batch) if SIDES[image] else network.maps(batch, batch[:0])


def test_heat_is_the_sum_of_channels_by_what_each_adds_to_the_similarity(network: MSCLNet) -> None:
    heat_2hw = pair_heat(network, PAIR, SIDES)
    exact = deepcopy(network).double()
    for image in range(2):
        maps = maps_of(network, image).double()
        with torch.no_grad():
            other = exact.head(maps_of(network, 1 - image).double())[1]
        raw = np.zeros(maps.shape[2:])
        for channel in range(maps.shape[1]):
            step = torch.zeros_like(maps)
            step[:, channel] = 1e-5
            with torch.no_grad():
                above, below = (
                    torch.cosine_similarity(exact.head(m)[1], other) for m in (maps + step, maps - step)
                )
            raw += (above - below).item() * maps[0, channel].numpy()
        assert raw.max() > 0
        np.testing.assert_allclose(heat_2hw[image], np.maximum(raw, 0) / raw.max(), atol=1e-3)


def test_the_picture_is_each_image_under_its_own_heat(network: MSCLNet) -> None:
    picture = pair_heatmap(network, PAIR, SIDES)
    heat = pair_heat(network, PAIR, SIDES)
    assert picture.shape == (288, 288, 3)
    np.testing.assert_array_equal(picture[:, :144], overlay(PAIR[0], heat[0]))
    np.testing.assert_array_equal(picture[:, 144:], overlay(PAIR[1], heat[1]))


def test_another_partner_gives_another_heat(network: MSCLNet) -> None:
    other = np.stack([PAIR[0], random_images(1, 288, 144, seed=9).numpy()[0]])
    first, second = (pair_heat(network, images, SIDES)[0] for images in (PAIR, other))
    assert np.abs(first - second).max() > 1e-3
