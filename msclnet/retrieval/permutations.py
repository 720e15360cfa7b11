"""SYSU-MM01's published gallery permutations."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msclnet.errors import UserError
from msclnet.retrieval.mat_file import load_mat

Permutations = Mapping[tuple[int, int], NDArray]
"""(identity, camera) -> trials x images, 1-based image numbers"""


def read_permutations(path: str | Path) -> Permutations:
    """Read SYSU-MM01's `rand_perm_cam.mat`: a cell array camera x identity of trials x images tables.

    Raises:
        UserError: The file is missing or is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path} is missing: the official gallery sampling needs rand_perm_cam.mat, which ships with "
            "SYSU-MM01's evaluation code and not with its images; put it there or name its place, "
            "or choose the sampler `agw`"
        )
    permutations: dict[tuple[int, int], NDArray] = {}
    try:
        cameras = load_mat(path)["rand_perm_cam"].ravel()
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
