"""Draws galleries: SYSU-MM01's published permutations, and the way of AGW's public code.

Axes: G gallery images.
"""

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msclnet.errors import UserError

MAX_MAT_BYTES = 2**26  # SYSU-MM01's permutations have less than a million

IntArray = NDArray[np.int64]


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file by name; ValueError where it is too large or none."""
    from scipy.io import loadmat

    size = path.stat().st_size
    if size > MAX_MAT_BYTES:
        raise ValueError(f"it has {size} bytes, more than {MAX_MAT_BYTES}")
    try:
        return loadmat(path)
    except Exception as error:  # scipy's reader raises many kinds on damaged files
        raise ValueError(f"it cannot be read as a MATLAB file: {error}") from error


Permutations = Mapping[tuple[int, int], NDArray]
"""SYSU-MM01's published gallery permutations: (identity, camera) -> trials x images, 1-based image numbers"""


def read_permutations(path: str | Path) -> Permutations:
    """Read SYSU-MM01's `rand_perm_cam.mat`: a cell array camera x identity of trials x images tables."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path} is missing: the official gallery sampling needs rand_perm_cam.mat, which ships with "
            "SYSU-MM01's evaluation code and not with its images; put it there or name its place, "
            "or choose the sampler `agw`"
        )
    permutations: dict[tuple[int, int], NDArray] = {}
    try:
        cameras = read_mat(path)["rand_perm_cam"].ravel()
        for camera, identities in enumerate(cameras, start=1):
            for identity, table in enumerate(identities.ravel(), start=1):
                if not table.size:
                    continue
                if not np.array_equal(np.sort(table, axis=1)[0], np.arange(1, table.shape[1] + 1)):
                    raise ValueError(f"camera {camera}, identity {identity} holds no permutation")
                permutations[identity, camera] = table
    except (ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise UserError(
            f"{path} is not SYSU-MM01's rand_perm_cam.mat ({type(error).__name__}: {error}); "
            "take the file from the data set's evaluation code"
        ) from error
    return permutations


Cells = Mapping[tuple[int, int], IntArray]
"""(identity, camera) -> positions of its images, by path"""


def draw_agw(cells: Cells, *, cameras: Iterable[int], shots: int, trial: int) -> IntArray:
    """Draw as the public AGW code does: seed the trial's number (from 0), then choose from the sorted files.

    Identities ascend in the outer loop, cameras follow in the given order in the inner one: it decides which random
    number belongs to which. AGW has one shot; more are this project's extension: a sample of min(shots, n) files
    without repetition. Returns positions (G,), in the order drawn.
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
    """Draw by SYSU-MM01's published permutations: the first entries of the row of the trial (from 0).

    An entry k means the k-th image of the identity and camera by file name. Cameras are visited in the outer
    loop and identities in the inner one, as the official evaluation does. Returns positions (G,), in the order drawn.
    UserError where a table has another number of images, or fewer trials; these galleries would not be official.
    """
    drawn = [np.empty(0, np.int64)]
    for camera in cameras:
        for identity in sorted({identity for identity, cam in cells if cam == camera}):
            files = cells[identity, camera]
            table = permutations.get((identity, camera), np.empty((0, 0), np.int64))
            if table.shape[1] != len(files):
                raise UserError(
                    f"the permutation file has {table.shape[1]} images of identity {identity} by camera "
                    f"{camera}, the data set has {len(files)}: the copy of SYSU-MM01 is not complete, or the "
                    "file belongs to another data set (sampler `agw` needs no file)"
                )
            if trial >= len(table):
                raise UserError(
                    f"the permutation file has {len(table)} trials, number {trial + 1} was asked for"
                )
            drawn.append(files[table[trial, :shots].astype(np.int64) - 1])
    return np.concatenate(drawn)
