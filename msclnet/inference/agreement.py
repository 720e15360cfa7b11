"""Whether two ways of computing features agree."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from msclnet.inference.stream import ArrayFunction

FEATURES = ("pooled", "bnneck")
BATCHES = (1, 2, 16)  # in turn, so that a graph that is made for one batch size is found out


@dataclass(frozen=True)
class Agreement:
    """How near a way comes to a reference, over some images.

    Attributes:
        cosine: The lowest cosine between an image's two features, of the pooled and of the BNNeck one; NaN where a
            feature is.
        difference: The largest difference of a feature's value, as a share of the reference's largest value.
        images: How many images were looked at.
    """

    cosine: float
    difference: float
    images: int


def agreement(reference: ArrayFunction, other: ArrayFunction, images: np.ndarray) -> Agreement:
    """Compare two functions on images, a few at a time and not always as many.

    Args:
        reference, other: What computes pooled and BNNeck features.
        images: uint8 RGB (N, H, W, 3), N at least 1.
    """
    cosines, differences, largest = [], [], []
    for part in _batches(images):
        for expected, found in zip(reference(part), other(part), strict=True):
            a, b = expected.astype(np.float64), found.astype(np.float64)
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            cosines.append(float(((a * b).sum(axis=1) / norms).min()))
            differences.append(float(np.abs(a - b).max()))
            largest.append(float(np.abs(a).max()))
    return Agreement(float(np.min(cosines)), float(np.max(differences) / np.max(largest)), len(images))


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    start = turn = 0
    while start < len(images):
        size = BATCHES[min(turn, len(BATCHES) - 1)]
        yield images[start : start + size]
        start, turn = start + size, turn + 1
