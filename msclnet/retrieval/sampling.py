"""Drawing a gallery: some images of each identity and camera, by the two ways in use.

Results differ between the two, so a report names the sampler. Axes: G gallery images, N images.
"""

import random
from collections.abc import Iterable, Mapping

import numpy as np

from msclnet.errors import UserError
from msclnet.retrieval.exclusion import BoolArray, IntArray
from msclnet.retrieval.permutations import Permutations
from msclnet.retrieval.protocol import Images

Cells = Mapping[tuple[int, int], IntArray]
"""(identity, camera) -> positions of its images, by path"""


def group(images: Images, chosen_N: BoolArray) -> Cells:
    """Group the chosen images by identity and camera, each group sorted by path."""
    positions = np.flatnonzero(chosen_N)
    order = np.lexsort((images.paths[positions], images.cameras[positions], images.identities[positions]))
    positions = positions[order]
    keys = np.stack([images.identities[positions], images.cameras[positions]], axis=1)
    starts = np.flatnonzero(np.any(keys[1:] != keys[:-1], axis=1)) + 1
    parts = np.split(positions, starts) if len(positions) else []
    return {(int(images.identities[p[0]]), int(images.cameras[p[0]])): p for p in parts}


def draw_agw(cells: Cells, *, cameras: Iterable[int], shots: int, trial: int) -> IntArray:
    """Draw as the public AGW code does: seed the trial's number, then choose from the sorted files.

    Identities ascend in the outer loop, cameras follow in the given order in the inner one. AGW knows one
    shot; more are this project's extension: a sample of min(shots, n) files without repetition.

    Args:
        cells: The images to draw from.
        cameras: Cameras in the order in which they are visited; it decides which random number meets which.
        shots: Images of each identity and camera.
        trial: Number of the trial, from 0; the seed.

    Returns:
        Positions (G,), in the order drawn.
    """
    cameras = tuple(cameras)
    generator = random.Random(trial)
    drawn: list[int] = []
    for identity in sorted({identity for identity, _ in cells}):
        for camera in cameras:
            files = cells.get((identity, camera))
            if files is None:
                continue
            if shots == 1:
                drawn.append(generator.choice(files.tolist()))
            else:
                drawn.extend(generator.sample(files.tolist(), min(shots, len(files))))
    return np.array(drawn, np.int64)


def draw_official(
    cells: Cells, *, cameras: Iterable[int], shots: int, trial: int, permutations: Permutations
) -> IntArray:
    """Draw by SYSU-MM01's published permutations: the first entries of the trial's row.

    An entry k means the k-th image of the identity and camera by file name. Cameras are visited in the outer
    loop and identities in the inner one, as the official evaluation does.

    Args:
        cells: The images to draw from.
        cameras: Cameras in the order in which they are visited.
        shots: Images of each identity and camera.
        trial: Number of the trial, from 0; the row.
        permutations: As `read_permutations` gives them.

    Returns:
        Positions (G,), in the order drawn.

    Raises:
        UserError: The table knows another number of images or of trials: the galleries would not be the official ones.
    """
    drawn = [np.empty(0, np.int64)]
    for camera in cameras:
        for identity in sorted({identity for identity, cam in cells if cam == camera}):
            files = cells[identity, camera]
            table = permutations.get((identity, camera), np.empty((0, 0), np.int64))
            if table.shape[1] != len(files):
                raise UserError(
                    f"the permutation file knows {table.shape[1]} images of identity {identity} by camera "
                    f"{camera}, the data set has {len(files)}: the copy of SYSU-MM01 is not complete, or the "
                    "file belongs to another data set (sampler `agw` needs no file)"
                )
            if trial >= len(table):
                raise UserError(
                    f"the permutation file has {len(table)} trials, number {trial + 1} was asked for"
                )
            drawn.append(files[table[trial, :shots].astype(np.int64) - 1])
    return np.concatenate(drawn)
