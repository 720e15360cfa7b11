"""The test part of SYSU-MM01 as its published split files tell it: who was seen by which camera how often."""

import re
from pathlib import Path

from benchmarks.rehearsal.listing import Cells
from msclnet.errors import UserError
from msclnet.retrieval.protocols import read_mat, read_permutations

TEST_IMAGES = 10_578
TEST_IDENTITIES = 96


def read_test_cells(permutations: Path) -> Cells:
    """Images of each test identity and camera.

    Args:
        permutations: Place of rand_perm_cam.mat. It knows people of all lists, so that the test list must lie beside
            it: test_id.mat, as in the published evaluation code, or test_id.txt, as in the data set.

    Raises:
        UserError: A file is missing, is something else, or is not about the published test part.
    """
    tables = read_permutations(permutations)
    identities = _test_identities(permutations.parent)
    cells = {cell: table.shape[1] for cell, table in tables.items() if cell[0] in identities}
    found = len({identity for identity, _ in cells}), sum(cells.values())
    if found != (TEST_IDENTITIES, TEST_IMAGES):
        raise UserError(
            f"{permutations} and the test list beside it give {found[0]} people and {found[1]:,} images, not "
            f"{TEST_IDENTITIES} and {TEST_IMAGES:,}; take both files from SYSU-MM01's evaluation code"
        )
    return cells


def _test_identities(folder: Path) -> set[int]:
    matrix, text = folder / "test_id.mat", folder / "test_id.txt"
    try:
        if matrix.is_file():
            return {int(number) for number in read_mat(matrix)["id"].ravel()}
        if text.is_file():
            return {int(number) for number in re.findall(r"\d+", text.read_text(encoding="utf-8"))}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(
            f"{matrix if matrix.is_file() else text} is no list of test identities ({error!r})"
        ) from error
    raise UserError(
        f"{folder} holds neither test_id.mat nor test_id.txt: the permutation file knows the people of all lists, so "
        "put the test list beside it; both come with SYSU-MM01's evaluation code"
    )
