"""Measures of images, and near duplicates against a comparison of every pair."""

import io
from itertools import combinations

import cv2
import numpy as np
import pytest
from PIL import Image

from msclnet.images.decode import decode
from msclnet.images.duplicates import DISTANCE, groups, measure, near_pairs
from msclnet.images.table import Measures

RNG = np.random.default_rng(3)


def picture(seed: int, *, shape: tuple[int, int] = (288, 144)) -> np.ndarray:
    """Soft noise, as photos have it: no two seeds are alike."""
    noise = np.random.default_rng(seed).normal(size=(*shape, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 9)
    return np.clip(128 + 40 * soft / soft.std(), 0, 255).astype(np.uint8)


def compressed(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=60)
    return decode(buffer.getvalue()).pixels


def halved(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def darkened(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 0.7).astype(np.uint8)


def measured(pixels: np.ndarray) -> Measures:
    return measure(pixels, height=pixels.shape[0], width=pixels.shape[1])


def test_measures_have_their_definitions() -> None:
    pixels = picture(0)
    found = measure(pixels, height=576, width=288)
    red, green, blue = pixels.astype(float).transpose(2, 0, 1)
    gray = np.round(0.299 * red + 0.587 * green + 0.114 * blue)
    padded = np.pad(gray, 1, mode="reflect")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * gray
    assert (found.height, found.width) == (576, 288)
    assert found.brightness == pytest.approx(gray.mean(), abs=0.1)
    assert found.sharpness == pytest.approx(laplacian.var(), rel=0.02)
    assert 0 <= found.fingerprint < 2**64
    flat = measured(np.full((288, 144, 3), 90, np.uint8))
    assert (flat.brightness, flat.sharpness) == (90.0, 0.0)


@pytest.mark.parametrize("change", [compressed, halved, darkened, np.copy])
def test_copies_are_found_and_nothing_else(change) -> None:
    pictures = [picture(seed) for seed in range(30)]
    images = [*pictures, *(change(pictures[seed]) for seed in (3, 17))]
    assert near_pairs([measured(image) for image in images]).tolist() == [[3, 30], [17, 31]]


def test_every_pair_of_near_hashes_is_found_whatever_bits_differ() -> None:
    """Against a comparison of all pairs; the thumbnails are equal, so that the hashes alone decide."""
    hashes = RNG.integers(0, 2**64, 150, dtype=np.uint64)
    copies = []
    for value in hashes[:60]:
        bits = RNG.choice(64, size=int(RNG.integers(0, 8)), replace=False)
        copies.append(
            value ^ np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64), initial=np.uint64(0))
        )
    every = [int(value) for value in (*hashes, *copies)]
    expected = [
        [i, j] for i, j in combinations(range(len(every)), 2) if (every[i] ^ every[j]).bit_count() <= DISTANCE
    ]
    measures = [Measures(1, 1, 0.0, 0.0, value, bytes(range(256))) for value in every]
    assert near_pairs(measures).tolist() == expected
    assert len(expected) > 20


def test_near_hashes_of_other_pictures_are_no_copies() -> None:
    one, other = (picture(seed, shape=(16, 16))[:, :, 0].tobytes() for seed in (1, 2))
    assert near_pairs([Measures(1, 1, 0.0, 0.0, 7, one), Measures(1, 1, 0.0, 0.0, 7, other)]).tolist() == []


def test_equal_images_are_copies_of_the_first_one() -> None:
    black = Measures(1, 1, 0.0, 0.0, 0, bytes(256))
    pairs = near_pairs([black] * 2000)
    assert len(pairs) == 1999
    assert groups(pairs, 2000) == [list(range(2000))]


@pytest.mark.parametrize("count", [0, 1])
def test_few_images_have_no_pair(count: int) -> None:
    pairs = near_pairs([measured(picture(0))] * count)
    assert pairs.shape == (0, 2)
    assert groups(pairs, count) == []


def test_groups_are_what_pairs_connect() -> None:
    pairs = np.array([[0, 4], [2, 3], [4, 9]])
    assert groups(pairs, 12) == [[0, 4, 9], [2, 3]]
