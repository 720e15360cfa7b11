"""What a protocol is: which images query, which form the gallery of each trial, and what is left out.

A protocol holds positions in the arrays of embedded images, so that every image is embedded once and every
trial picks from the same features. Axes: N images, Q queries, G gallery images.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msclnet.errors import UserError
from msclnet.retrieval.exclusion import BoolArray, Exclusion, IntArray

INFRARED_TO_VISIBLE = "infrared-to-visible"
VISIBLE_TO_INFRARED = "visible-to-infrared"
DIRECTIONS = (INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED)
"""Named by what is the query: `infrared-to-visible` has infrared queries and a visible gallery."""


@dataclass(frozen=True)
class Images:
    """What is known of the embedded images, in the order of their features.

    Attributes:
        identities, cameras: (N,) the data set's own numbers.
        infrared: (N,) true for infrared, false for visible.
        paths: (N,) place inside the image source; decides the order of the images of one identity and camera.
    """

    identities: IntArray
    cameras: IntArray
    infrared: BoolArray
    paths: NDArray[np.str_]

    @classmethod
    def of(cls, arrays: Mapping[str, ArrayLike]) -> "Images":
        """From a mapping (an embeddings file, say) with `identities`, `cameras`, `infrared` and `paths`.

        Raises:
            ValueError: The four are not one-dimensional and of one length.
        """
        images = cls(
            np.asarray(arrays["identities"], np.int64),
            np.asarray(arrays["cameras"], np.int64),
            np.asarray(arrays["infrared"], np.bool_),
            np.asarray(arrays["paths"], np.str_),
        )
        shapes = {name: column.shape for name, column in vars(images).items()}
        if len(set(shapes.values())) != 1 or images.identities.ndim != 1:
            raise ValueError(f"the columns must be of one length, got {shapes}")
        return images

    def __len__(self) -> int:
        return len(self.identities)


@dataclass(frozen=True)
class Protocol:
    """One way of scoring, with every convention that a reader of the numbers must know.

    Attributes:
        dataset, mode, direction: Names; `mode` is None where the data set has one only.
        shots: Gallery images of each identity and camera; None means every image.
        sampler: How gallery images are drawn; None where nothing is drawn.
        queries: (Q,) positions of the queries.
        galleries: Positions of the gallery images, one array (G,) a trial.
        exclude: What a query ignores.
        cmc_by_identity: Whether CMC counts identities and not images (see `ranking.rank`).
    """

    dataset: str
    mode: str | None
    shots: int | None
    sampler: str | None
    direction: str
    queries: IntArray
    galleries: tuple[IntArray, ...]
    exclude: Exclusion | None
    cmc_by_identity: bool

    def __post_init__(self) -> None:
        sizes = {"query": len(self.queries), "gallery": min(map(len, self.galleries), default=0)}
        for side, size in sizes.items():
            if not size:
                mode = f" {self.mode}" if self.mode else ""
                raise UserError(
                    f"{self.dataset}{mode} {self.direction}: no {side} image among the embedded ones; "
                    "embed the test split with both modalities in it"
                )

    def labels(self) -> dict[str, str | int | None]:
        """The conventions, for a report."""
        names = ("dataset", "mode", "shots", "sampler", "direction")
        return {name: getattr(self, name) for name in names}


def query_is_infrared(direction: str) -> bool:
    """Whether the queries of a direction are infrared.

    Raises:
        ValueError: `direction` is not one of `DIRECTIONS`.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {DIRECTIONS}, got {direction!r}")
    return direction == INFRARED_TO_VISIBLE
