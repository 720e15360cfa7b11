"""The augmentation's distributions, measured on images that show what was done to them."""

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import stats

from msclnet.images.augmentation import (
    FILL,
    RandomErasing,
    augmentation_steps,
    build_augmentation,
    seed_steps,
)

HEIGHT, WIDTH = 288, 144
BLANK = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)  # no pixel of it is the fill colour


def settings(
    *,
    padding: int = 0,
    flip: float = 0.0,
    probability: float = 0.0,
    area: tuple[float, float] = (0.02, 0.4),
    ratio: tuple[float, float] = (0.3, 3.3),
    channel_exchange: float = 0.0,
) -> dict[str, Any]:
    erasing = {"probability": probability, "area": list(area), "ratio": list(ratio)}
    return {"padding": padding, "flip": flip, "channel_exchange": channel_exchange, "erasing": erasing}


def numbered(height: int, width: int) -> np.ndarray:
    """Every pixel tells its own row (red, from 1) and column (green, from 1); blue is 9."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.stack([rows + 1, columns + 1, np.full_like(rows, 9)], axis=2).astype(np.uint8)


def box_of(erased: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height, width of what was done to BLANK, which must be one rectangle of the fill colour."""
    changed = erased[:, :, 0] != 255
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    expected = BLANK.copy()
    box = (0, 0, 0, 0)
    if len(rows):
        box = (int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
        expected[box[0] : box[0] + box[2], box[1] : box[1] + box[3]] = FILL
    assert np.array_equal(erased, expected)
    return box


@cache
def boxes(
    count: int, *, area: tuple[float, float], ratio: tuple[float, float] = (0.3, 3.3), seed: int = 0
) -> np.ndarray:
    erasing = RandomErasing(area=area, ratio=ratio, p=1.0)
    erasing.set_random_seed(seed)
    return np.array([box_of(erasing(image=BLANK)["image"]) for _ in range(count)])


@pytest.mark.parametrize("area", [(0.2, 0.8), (0.02, 0.4)])
def test_erased_share_is_uniform(area: tuple[float, float]) -> None:
    found = boxes(2000, area=area)
    shares = found[:, 2] * found[:, 3] / (HEIGHT * WIDTH)
    low, high = area
    # Whole pixels move a share by at most half a column of the tallest rectangle.
    rounding = 0.5 / WIDTH
    assert shares.min() >= low - rounding
    assert shares.max() <= high + rounding
    assert shares.min() < low + 0.01 * (high - low)
    assert shares.max() > high - 0.01 * (high - low)
    assert stats.kstest(shares, stats.uniform(low, high - low).cdf).pvalue > 0.01


def test_the_uniformity_check_would_notice_rejection() -> None:
    """The usual way, drawing anew where the rectangle does not fit, fails the very same check."""
    rng = np.random.default_rng(0)
    shares = []
    while len(shares) < 2000:
        share, ratio = rng.uniform(0.2, 0.8), rng.uniform(0.3, 3.3)
        pixels = share * HEIGHT * WIDTH
        if np.sqrt(pixels * ratio) < HEIGHT and np.sqrt(pixels / ratio) < WIDTH:
            shares.append(share)
    assert stats.kstest(shares, stats.uniform(0.2, 0.6).cdf).pvalue < 1e-6


def test_boxes_lie_inside_and_reach_every_border() -> None:
    top, left, height, width = boxes(2000, area=(0.02, 0.4)).T
    assert (height >= 1).all()
    assert (width >= 1).all()
    assert (top.min(), left.min()) == (0, 0)
    assert (top + height).max() == HEIGHT
    assert (left + width).max() == WIDTH


def test_places_are_uniform_among_those_that_fit() -> None:
    top, left, height, width = boxes(2000, area=(0.05, 0.2)).T
    rng = np.random.default_rng(0)  # spreads whole numbers over the pixel they stand for
    for place, room in ((top, HEIGHT - height), (left, WIDTH - width)):
        spread = (place + rng.random(len(place))) / (room + 1)
        assert stats.kstest(spread, stats.uniform().cdf).pvalue > 0.01


def test_aspect_ratio_keeps_its_bounds_where_it_can() -> None:
    _, _, height, width = boxes(2000, area=(0.02, 0.1)).T
    # A tenth of the image at 1:3.3 is 117 wide: everything fits. Whole pixels move the smallest, 16 x 52, by 8 %.
    assert (height / width).min() == pytest.approx(0.3, rel=0.08)
    assert (height / width).max() == pytest.approx(3.3, rel=0.08)
    logarithm = np.log(height / width)
    assert stats.kstest(logarithm, stats.uniform(np.log(0.3), np.log(3.3 / 0.3)).cdf).pvalue > 0.001


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_degenerate_shares(share: float) -> None:
    found = boxes(5, area=(share, share))
    expected = [0, 0, HEIGHT, WIDTH] if share else [0, 0, 0, 0]
    assert found.tolist() == [expected] * 5


@pytest.mark.parametrize("probability", [0.0, 0.5, 0.8, 1.0])
def test_erasing_probability(probability: float) -> None:
    transform = build_augmentation(settings(probability=probability), height=HEIGHT, width=WIDTH)
    transform.set_random_seed(1)
    count = 1000
    erased = sum(bool(box_of(transform(image=BLANK)["image"])[2]) for _ in range(count))
    assert stats.binomtest(erased, count, probability).pvalue > 0.001


def test_crop_shows_the_padding_and_every_offset() -> None:
    padding, height, width = 3, 20, 12
    image = numbered(height, width)
    transform = build_augmentation(settings(padding=padding), height=height, width=width)
    transform.set_random_seed(2)
    seen: Counter[tuple[int, int]] = Counter()
    padded = np.zeros((height + 2 * padding, width + 2 * padding, 3), dtype=np.uint8)
    padded[padding:-padding, padding:-padding] = image
    count = 3000
    for _ in range(count):
        cropped = transform(image=image)["image"]
        inside = np.argwhere(cropped[:, :, 2] == 9)[0]
        red, green, _ = cropped[tuple(inside)]
        offset = (int(red) - 1 + padding - int(inside[0]), int(green) - 1 + padding - int(inside[1]))
        top, left = offset
        np.testing.assert_array_equal(cropped, padded[top : top + height, left : left + width])
        seen[offset] += 1
    places = 2 * padding + 1
    assert set(seen) == {(top, left) for top in range(places) for left in range(places)}
    assert stats.chisquare(list(seen.values())).pvalue > 0.001


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
def test_flip(flip: float) -> None:
    image = numbered(20, 12)
    transform = build_augmentation(settings(flip=flip), height=20, width=12)
    transform.set_random_seed(3)
    count, flipped = 1000, 0
    for _ in range(count):
        result = transform(image=image)["image"]
        mirrored = bool(result[0, 0, 1] != 1)
        np.testing.assert_array_equal(result, image[:, ::-1] if mirrored else image)
        flipped += mirrored
    assert stats.binomtest(flipped, count, flip).pvalue > 0.001


@pytest.mark.parametrize("probability", [0.2, 0.5, 1.0])
def test_each_channel_takes_the_place_of_all_three_as_often(probability: float) -> None:
    image = numbered(20, 12)
    transform = build_augmentation(settings(channel_exchange=probability), height=20, width=12)
    transform.set_random_seed(5)
    count, found = 1500, Counter[str]()
    ways = {"none": image, **{str(c): np.stack([image[:, :, c]] * 3, axis=2) for c in range(3)}}
    for _ in range(count):
        result = transform(image=image)["image"]
        (way,) = [name for name, expected in ways.items() if np.array_equal(result, expected)]
        found[way] += 1
    exchanged = count - found["none"]
    assert stats.binomtest(exchanged, count, probability).pvalue > 0.001
    assert stats.chisquare([found[str(c)] for c in range(3)]).pvalue > 0.001


def test_an_infrared_image_has_no_channel_to_exchange() -> None:
    gray = np.random.default_rng(2).integers(0, 256, size=(20, 12, 1), dtype=np.uint8).repeat(3, axis=2)
    transform = build_augmentation(settings(channel_exchange=1.0), height=20, width=12)
    for _ in range(5):
        np.testing.assert_array_equal(transform(image=gray)["image"], gray)


def test_without_channel_exchange_the_other_steps_draw_as_ever() -> None:
    assert augmentation_steps(settings(), height=20, width=12, always=True)["exchanged"] == []
    assert augmentation_steps(settings(), height=20, width=12)["cropped"] == []
    with_it, without = (
        build_augmentation(settings(padding=3, flip=0.5, channel_exchange=p), height=20, width=12)
        for p in (1.0, 0.0)
    )
    image = numbered(20, 12)
    for seed in range(20):
        seed_steps(with_it, seed)
        seed_steps(without, seed)
        moved, plain = with_it(image=image)["image"], without(image=image)["image"]
        assert any(np.array_equal(moved[:, :, 0], plain[:, :, c]) for c in range(3))


def test_steps_come_one_after_the_other() -> None:
    """Erased pixels stay whole: the rectangle is drawn last, in the cropped image's frame."""
    transform = build_augmentation(
        settings(padding=10, flip=0.5, probability=1.0), height=HEIGHT, width=WIDTH
    )
    transform.set_random_seed(0)
    for _ in range(30):
        result = transform(image=BLANK)["image"]
        erased = (result == FILL).all(axis=2)
        rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
        assert erased[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_same_seed_same_pixels_and_the_image_given_stays() -> None:
    image = np.random.default_rng(0).integers(0, 256, size=(64, 32, 3), dtype=np.uint8)
    before = image.copy()
    transform = build_augmentation(settings(padding=10, flip=0.5, probability=0.5), height=64, width=32)

    def drawn(seed: int) -> bytes:
        transform.set_random_seed(seed)
        results = [transform(image=image)["image"] for _ in range(8)]
        assert {(result.dtype, result.shape) for result in results} == {(np.dtype(np.uint8), image.shape)}
        return np.stack(results).tobytes()

    assert drawn(7) == drawn(7)
    assert len({drawn(seed) for seed in range(10)}) == 10
    np.testing.assert_array_equal(image, before)


def test_always_does_everything() -> None:
    steps = augmentation_steps(
        settings(padding=2, flip=0.1, probability=0.1, channel_exchange=0.1), height=20, width=12, always=True
    )
    assert list(steps) == ["cropped", "flipped", "exchanged", "erased"]
    image = numbered(20, 12)
    for name in ("flipped", "exchanged", "erased"):
        for _ in range(20):
            assert (steps[name][0](image=image)["image"] != image).any(), name
