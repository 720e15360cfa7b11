"""What is known of one image before it is opened."""

from dataclasses import dataclass
from typing import Literal, get_args

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
