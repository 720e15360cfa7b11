"""The nearest images of a large gallery, against the whole order of a small one."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from msclnet.retrieval.distance import nearest, possible, rank_gallery


def features(count: int, *, seed: int) -> np.ndarray:
    """Of few values, so that the products are exact and many images are equally similar."""
    values = np.random.default_rng(seed).integers(0, 2, (count, 4)).astype(np.float32)
    values[values.sum(axis=1) == 0, 0] = 1
    return values


@pytest.mark.parametrize("count", [1, 7, 60, 200])
@pytest.mark.parametrize("block", [1, 7, 60, 1000])
def test_equals_the_first_columns_of_the_whole_order_with_its_ties(count: int, block: int) -> None:
    queries, gallery = features(9, seed=0), features(100, seed=1)
    order, similarities = rank_gallery(queries, gallery)
    found, values = nearest(queries, gallery, count=count, block=block)
    assert found.tolist() == order[:, :count].tolist()
    np.testing.assert_array_equal(values, similarities[:, :count])
    assert (found.dtype, values.dtype) == (np.int64, np.float64)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("noise", [1.0, 1e-4, 1e-5])
def test_images_that_single_precision_cannot_tell_apart_are_still_in_order(
    noise: float, scale: float
) -> None:
    generator = np.random.default_rng(4)
    queries = generator.standard_normal((3, 64))
    gallery = (queries[generator.integers(0, 3, 500)] + noise * generator.standard_normal((500, 64))) * scale
    found, values = nearest(queries, gallery, count=20, block=50)
    cosines = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (
        gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    ).T
    assert found.tolist() == np.argsort(-cosines, axis=1)[:, :20].tolist()
    np.testing.assert_allclose(values, -np.sort(-cosines, axis=1)[:, :20], rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_what_is_ruled_out_is_below_every_floor(kind: type) -> None:
    generator = np.random.default_rng(5)
    queries = generator.standard_normal((4, 256))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    images = (generator.standard_normal((2000, 256)) * generator.uniform(1e-3, 1e3, (2000, 1))).astype(kind)
    exact = queries @ (images / np.linalg.norm(images.astype(np.float64), axis=1, keepdims=True)).T
    floors = np.sort(exact, axis=1)[:, -10]  # a real similarity each, so that a rounding could lose it
    wanted = np.flatnonzero((exact >= floors[:, None]).any(axis=0))
    kept = possible(queries, images, floors)
    assert set(wanted) <= set(kept)
    assert len(kept) <= len(wanted) + 10, "and little else is looked at again"


def test_half_precision_in_a_file_is_searched_as_it_is(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    stored = generator.standard_normal((300, 32)).astype(np.float16)
    np.save(tmp_path / "gallery.npy", stored)
    queries = generator.standard_normal((5, 32))
    found, values = nearest(queries, np.load(tmp_path / "gallery.npy", mmap_mode="r"), count=10, block=64)
    order, similarities = rank_gallery(queries, stored)
    assert found.tolist() == order[:, :10].tolist()
    np.testing.assert_allclose(values, similarities[:, :10], atol=1e-6)


def test_the_gallery_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    images, width, block = 40_000, 64, 256
    np.save(tmp_path / "gallery.npy", np.random.default_rng(3).standard_normal((images, width), np.float32))
    gallery = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    tracemalloc.start()
    try:
        nearest(np.ones((4, width)), gallery, count=5, block=block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * block * width * 4 < gallery.nbytes / 10


def test_no_queries_and_no_gallery() -> None:
    assert nearest(np.ones((0, 3)), np.ones((2, 3)), count=5)[0].shape == (0, 2)
    assert nearest(np.ones((2, 3)), np.ones((0, 3)), count=5)[1].shape == (2, 0)


def test_what_cannot_be_searched_is_refused() -> None:
    gallery = np.ones((10, 3))
    gallery[7] = 0
    with pytest.raises(ValueError, match="feature 7 is all zeros"):
        nearest(np.ones((1, 3)), gallery, count=1, block=4)
    with pytest.raises(ValueError, match="one width"):
        nearest(np.ones((1, 3)), np.ones((2, 4)), count=1)
    for wrong in ({"count": 0}, {"count": 1, "block": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            nearest(np.ones((1, 3)), np.ones((2, 3)), **wrong)
