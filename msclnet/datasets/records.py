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
    """One image of a data set."""

    path: str  # in the folder or archive, with `/` between its parts
    identity: int  # as the data set gives it, >= 0
    camera: int  # as the data set gives it, >= 0
    modality: Modality
    split: Split


EVERY = 10


@dataclass(frozen=True)
class Drawn:
    """How own images without given splits are split: shares of the identities with images of both modalities."""

    seed: int
    val: float
    test: float


@dataclass(frozen=True)
class Choice:
    """How images are assigned to splits."""

    # Whether identities are held out for validation; if not, they train too and `val` is empty.
    validation: bool
    regdb_split: int = 1  # which of RegDB's ten published splits, 1 to 10
    drawn: Drawn | None = None  # for own images whose labels name no splits


def held_out(identities: Iterable[int], *, title: str) -> set[int]:
    """Validation identities of a data set that publishes none: every tenth of the sorted training identities.

    A convention of this project: the 10th, 20th, ... 200th of RegDB's 206 and the 10th, ... 710th of LLCM's 713.
    UserError where there are fewer than ten.
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
