"""What grows with the gallery."""

from collections.abc import Callable

import numpy as np

from benchmarks.growing.operation import Operation
from msclnet.retrieval.distance import rank_gallery
from msclnet.retrieval.ranking import rank

AXIS = "gallery images"
SIZES = (1000, 3000, 10_000, 30_000, 100_000)
WIDTH, QUERIES = 256, 16
PER_IDENTITY = 10


def features(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, WIDTH), dtype=np.float32)


def ranking() -> Operation:
    """CMC, mAP and mINP from given distances; ten gallery images of each identity."""

    def make(size: int) -> Callable[[], object]:
        distances = np.random.default_rng(0).random((QUERIES, size), dtype=np.float32)
        gallery = np.arange(size) // PER_IDENTITY
        return lambda: rank(distances, np.arange(QUERIES), gallery)

    return Operation("ranking", AXIS, SIZES, make, note=f"{QUERIES} queries")


def whole_order() -> Operation:
    """Every query's whole gallery in order."""

    def make(size: int) -> Callable[[], object]:
        queries, gallery = features(QUERIES, 0), features(size, 1)
        return lambda: rank_gallery(queries, gallery)

    return Operation(
        "search, whole order", AXIS, SIZES, make, note=f"{QUERIES} queries; sorts, which is G log G in theory"
    )


OPERATIONS = (ranking, whole_order)
