"""How near two ways come, in cases whose answer is known."""

import math

import numpy as np
import pytest

from msclnet.export.backends import agreement

IMAGES = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1).repeat(3, axis=3)


def reference(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(1, 0) for every image, and twice that."""
    pooled = np.tile(np.array([1, 0], dtype=np.float32), (len(images), 1))
    return pooled, 2 * pooled


def turned(images: np.ndarray, *, number: int, angle: float, feature: int) -> tuple[np.ndarray, np.ndarray]:
    """The reference with one feature of one image turned by an angle."""
    features = reference(images)
    row = np.flatnonzero(images[:, 0, 0, 0] == number)
    features[feature][row] = (1 + feature) * np.array([math.cos(angle), math.sin(angle)])
    return features


@pytest.mark.parametrize(("number", "feature"), [(0, 0), (1, 1), (2, 0), (18, 1), (39, 0), (39, 1)])
def test_one_image_that_differs_is_found(number: int, feature: int) -> None:
    found = agreement(
        reference, lambda images: turned(images, number=number, angle=0.3, feature=feature), IMAGES
    )
    assert found.cosine == pytest.approx(math.cos(0.3), abs=1e-6)
    assert found.difference == pytest.approx((1 + feature) * math.sin(0.3) / 2, abs=1e-6)
    assert found.images == 40


def test_length_does_not_count_for_the_cosine_and_does_for_the_difference() -> None:
    def longer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pooled, bnneck = reference(images)
        return 3 * pooled, 3 * bnneck

    found = agreement(reference, longer, IMAGES)
    assert found.cosine == pytest.approx(1)
    assert found.difference == pytest.approx(2)


def test_what_is_no_number_is_no_agreement() -> None:
    def broken(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pooled, bnneck = reference(images)
        return pooled, np.where(images[:, 0, 0, :2] == 7, np.nan, bnneck)

    assert not agreement(reference, broken, IMAGES).cosine >= 0


def test_every_image_is_looked_at_once_and_not_always_as_many_at_a_time() -> None:
    seen: list[np.ndarray] = []

    def watched(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(images)
        return reference(images)

    agreement(reference, watched, IMAGES)
    np.testing.assert_array_equal(np.concatenate(seen), IMAGES)
    assert len({len(images) for images in seen}) >= 3
