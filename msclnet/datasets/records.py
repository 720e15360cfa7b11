"""One image of a data set, and the identities held out for validation."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from msclnet.errors import UserError

Modality = Literal["visible", "infrared"]
Split = Literal["train", "val", "test"]

SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Record:
    """One image of a data set.

    Attributes:
        path: Place inside the image source (a folder or an archive), relative, with `/` between its parts.
        identity: The person's number as the data set gives it, >= 0.
        camera: The camera's number as the data set gives it, >= 0.
        modality: `visible` or `infrared`.
        split: `train`, `val` or `test`.
    """

    path: str
    identity: int
    camera: int
    modality: Modality
    split: Split


EVERY = 10


@dataclass(frozen=True)
class Drawn:
    """How own images without given splits are split.

    Attributes:
        seed: Of the draw.
        val, test: Shares of the identities with images of both modalities, above 0, together below 1.
    """

    seed: int
    val: float
    test: float


@dataclass(frozen=True)
class Choice:
    """How images are assigned to splits.

    Attributes:
        validation: Whether the validation identities are held out of training; where not, they train too and the
            split `val` is empty.
        regdb_split: Which of RegDB's ten published splits, 1 to 10. Other data sets have one.
        drawn: How own images are split where their labels do not say it. Other data sets publish their splits.
    """

    validation: bool
    regdb_split: int = 1
    drawn: Drawn | None = None


def held_out(identities: Iterable[int], *, title: str) -> set[int]:
    """Validation identities of a data set that publishes none: every tenth of the sorted training identities.

    A convention of this project: the 10th, 20th, ... 200th of RegDB's 206 and the 10th, ... 710th of LLCM's 713.

    Raises:
        UserError: There are fewer than ten identities.
    """
    chosen = set(sorted(set(identities))[EVERY - 1 :: EVERY])
    if not chosen:
        raise UserError(
            f"{title}: every tenth training identity is held out for validation, but there are fewer than ten; "
            "complete the data set, or train on all identities without validation"
        )
    return chosen


def in_order(records: Iterable[Record]) -> list[Record]:
    """Sorted by split, identity, camera and path."""
    return sorted(records, key=lambda r: (SPLITS.index(r.split), r.identity, r.camera, r.path))
