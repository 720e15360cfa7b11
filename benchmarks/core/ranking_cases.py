"""Searches in the sizes of the public data sets."""

from dataclasses import dataclass

import numpy as np

from msclnet.retrieval.distance import l2_normalise

WIDTH = 2048


@dataclass(frozen=True)
class Case:
    """One search: who is asked for, and the galleries of its trials as columns of one distance matrix."""

    name: str
    query_identities: np.ndarray
    query_cameras: np.ndarray
    gallery_identities: np.ndarray
    gallery_cameras: np.ndarray
    trials: list[np.ndarray]
    sysu: bool


def sysu_case(name: str, *, shots: int, trials: int, seed: int = 0) -> Case:
    """SYSU-MM01's all-search in its counts: 96 identities, 3,803 queries, 301 (3,010) gallery images a trial."""
    generator = np.random.default_rng(seed)
    query_cameras = np.repeat([3, 6], [1883, 1920])
    query_identities = np.concatenate([np.sort(np.arange(1883) % 93), np.sort(np.arange(1920) % 96)])
    seen = {1: range(56), 2: range(56), 4: range(94), 5: range(1, 96)}
    pool = [(i, c) for c, identities in seen.items() for i in identities for _ in range(20)]
    identities, cameras = np.array(pool).T
    cells = np.arange(len(pool)).reshape(-1, 20)
    drawn = [generator.permuted(cells, axis=1)[:, :shots].reshape(-1) for _ in range(trials)]
    used, columns = np.unique(np.concatenate(drawn), return_inverse=True)
    return Case(
        name,
        query_identities,
        query_cameras,
        identities[used],
        cameras[used],
        np.split(columns, trials),
        sysu=True,
    )


def regdb_case(name: str) -> Case:
    """RegDB: 206 identities with ten images of each modality."""
    identities = np.repeat(np.arange(206), 10)
    cameras = np.ones(2060, np.int64)
    return Case(name, identities, cameras + 1, identities, cameras, [np.arange(2060)], sysu=False)


def draw_features(case: Case, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features as wide as a ResNet-50's, in which identities are found as a middling model finds them."""
    generator = np.random.default_rng(seed)
    people = generator.standard_normal((256, WIDTH), dtype=np.float32) * np.float32(0.22)
    sides = [
        people[identities] + generator.standard_normal((len(identities), WIDTH), dtype=np.float32)
        for identities in (case.query_identities, case.gallery_identities)
    ]
    return l2_normalise(sides[0]), l2_normalise(sides[1])
