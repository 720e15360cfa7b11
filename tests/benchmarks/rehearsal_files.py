"""For the tests of the rehearsal: a tiny data set of its kind, and split files as SYSU-MM01 publishes them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.io import savemat

from benchmarks.sysu_mm01 import Expected, Group

GROUPS = {
    "train": (Group(8, {1: 16, 2: 16, 3: 17, 4: 16, 5: 16, 6: 16}), Group(2, {3: 4, 4: 4})),
    "val": (Group(2, {3: 4, 5: 5}),),
    "test": (Group(3, {1: 30, 2: 33, 3: 6, 4: 30, 5: 30, 6: 6}), Group(1, {3: 2, 4: 11, 6: 2})),
    "unlisted": (Group(1, {3: 2, 4: 3}),),
}
# Counted by hand: the fourth test person is not seen indoors.
EXPECTED = Expected(
    published=False,
    images={
        ("train", "visible"): 16 + 16 + 16 + 16 + 4 + 5,
        ("train", "infrared"): 17 + 16 + 4 + 4,
        ("test", "visible"): 134,
        ("test", "infrared"): 16,
    },
    test_cameras={1: (3, 30), 2: (3, 33), 3: (4, 8), 4: (4, 41), 5: (3, 30), 6: (4, 8)},
    queries=16,
    valid_queries={"all": 16, "indoor": 12},
    gallery={("all", 1): 13, ("all", 10): 130, ("indoor", 1): 6, ("indoor", 10): 60},
    trials=10,
)


def write_permutations(path: Path, cells: Mapping[tuple[int, int], int]) -> None:
    """A rand_perm_cam.mat for these numbers of images: camera x identity cells of 10 x images tables."""
    generator = np.random.default_rng(0)
    cameras = np.empty((6, 1), object)
    for camera in range(1, 7):
        column = np.empty((max(identity for identity, _ in cells), 1), object)
        for place in range(len(column)):
            images = cells.get((place + 1, camera), 0)
            rows = [generator.permutation(images) + 1 for _ in range(10)] if images else np.empty((0, 0))
            column[place, 0] = np.array(rows, np.uint8)
        cameras[camera - 1, 0] = column
    savemat(path, {"rand_perm_cam": cameras})
