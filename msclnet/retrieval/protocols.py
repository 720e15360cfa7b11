"""Who queries whom: the evaluation protocols of SYSU-MM01, RegDB, LLCM and own images.

A protocol says which images query, which form the gallery of each trial, and which gallery images a query ignores.
It holds positions in the arrays of embedded images: every image is embedded once, and each trial picks from the same
features.

Axes: N images, Q queries, G gallery images, B queries of a block.

SYSU-MM01: 3,803 queries (every test image of infrared cameras 3 and 6) in both modes. Gallery: one image, or ten, of
each identity and visible camera; all-search has 301 (3,010) images of cameras 1, 2, 4 and 5, indoor-search 112
(1,120) of cameras 1 and 2, where 2,208 queries have a match. Camera 3 stands in the room of camera 2: its
queries ignore that camera's images. CMC counts identities.
Source: Wu et al., ICCV 2017, and its published evaluation; AGW sampling from Ye et al., TPAMI 2021. Results differ
between the two samplers: a report names the sampler.

RegDB: every image of one modality queries every image of the other. 206 test identities with ten visible and ten
thermal images each: 2,060 queries, 2,060 gallery images. One model is trained for each of the ten published splits
and scored on that split only; one model scored on all ten would see its training identities. No camera exclusion,
CMC counts images.
Source: Nguyen et al., Sensors 2017; splits as in Ye et al., TPAMI 2021 (AGW).

LLCM: every test image of one modality queries a gallery of one random image of each identity and camera of the
other, ten trials. A query ignores the images of its own identity by its own camera. CMC counts identities.
Directions are named by the query: `visible-to-infrared` has visible queries. Public code draws the infrared
images and scores them as queries against all visible ones under the name "visible to infrared"; those numbers
are not comparable with either direction here. Its "infrared to visible" is the same as here.
Source: Zhang and Wang, CVPR 2023 (DEEN).

Own images: every image of one modality queries every image of the other, as in RegDB (CMC counts images); and galleries
of one random image of each identity and camera, drawn as LLCM's (CMC counts identities). Whether a query ignores the
images of its own identity by its own camera is the user's choice.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msclnet.errors import UserError
from msclnet.retrieval.sampling import Cells, IntArray, draw_agw, draw_official, read_permutations

BoolArray = NDArray[np.bool_]

Exclusion = Callable[[IntArray, IntArray, IntArray, IntArray], BoolArray]
"""(query_identities_B, query_cameras_B, gallery_identities_G, gallery_cameras_G) -> excluded_BG"""


def same_room(*cameras: int) -> Exclusion:
    """A query of one of these cameras ignores every gallery image of any of them, whatever its identity.

    `same_room(2, 3)` is SYSU-MM01's rule: infrared camera 3 stands in the room of visible camera 2.
    """

    def exclude(
        query_identities_B: IntArray,
        query_cameras_B: IntArray,
        gallery_identities_G: IntArray,
        gallery_cameras_G: IntArray,
    ) -> BoolArray:
        return np.isin(query_cameras_B, cameras)[:, None] & np.isin(gallery_cameras_G, cameras)

    return exclude


def same_identity_and_camera(
    query_identities_B: IntArray,
    query_cameras_B: IntArray,
    gallery_identities_G: IntArray,
    gallery_cameras_G: IntArray,
) -> BoolArray:
    """A query ignores the images of its own identity by its own camera: LLCM's rule, and Market-1501's."""
    same_identity_BG = query_identities_B[:, None] == gallery_identities_G
    return same_identity_BG & (query_cameras_B[:, None] == gallery_cameras_G)


INFRARED_TO_VISIBLE = "infrared-to-visible"
VISIBLE_TO_INFRARED = "visible-to-infrared"
DIRECTIONS = (INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED)
"""Named by what is the query: `infrared-to-visible` has infrared queries and a visible gallery."""


@dataclass(frozen=True)
class Images:
    """What is known of the embedded images, in the order of their features."""

    identities: IntArray  # (N,) the data set's own numbers
    cameras: IntArray
    infrared: BoolArray  # (N,) true for infrared, false for visible
    # (N,) in the image source; decides the order of the images of one identity and camera.
    paths: NDArray[np.str_]

    @classmethod
    def of(cls, arrays: Mapping[str, ArrayLike]) -> "Images":
        """From a mapping (of an embeddings file) with `identities`, `cameras`, `infrared` and `paths`."""
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
    """One way of scoring, with every convention that a reader of the numbers must know."""

    dataset: str
    mode: str | None  # None where the data set has one only
    shots: int | None  # gallery images of each identity and camera; None: every image
    sampler: str | None  # how gallery images are drawn; None where nothing is drawn
    direction: str
    queries: IntArray  # (Q,) positions
    galleries: tuple[IntArray, ...]  # positions, one array (G,) a trial
    exclude: Exclusion | None  # what a query ignores
    cmc_by_identity: bool  # whether CMC counts identities and not images (see `ranking.rank`)

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
    """Whether the queries of a direction are infrared; ValueError for none of `DIRECTIONS`."""
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {DIRECTIONS}, got {direction!r}")
    return direction == INFRARED_TO_VISIBLE


def group(images: Images, chosen_N: BoolArray) -> Cells:
    """Group the chosen images by identity and camera, each group sorted by path."""
    positions = np.flatnonzero(chosen_N)
    order = np.lexsort((images.paths[positions], images.cameras[positions], images.identities[positions]))
    positions = positions[order]
    keys = np.stack([images.identities[positions], images.cameras[positions]], axis=1)
    starts = np.flatnonzero(np.any(keys[1:] != keys[:-1], axis=1)) + 1
    parts = np.split(positions, starts) if len(positions) else []
    return {(int(images.identities[p[0]]), int(images.cameras[p[0]])): p for p in parts}


SYSU_MM01_QUERY_CAMERAS = (3, 6)
SYSU_MM01_GALLERY_CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
SYSU_MM01_SHARED_ROOM = (2, 3)
SYSU_MM01_SHOTS = (1, 10)
SYSU_MM01_SAMPLERS = ("official", "agw")


def sysu_mm01_protocol(
    images: Images,
    *,
    mode: str,
    shots: int,
    sampler: str,
    permutations_path: str | Path | None = None,
    trials: int = 10,
    dataset: str = "sysu-mm01",
) -> Protocol:
    """Who queries whom in SYSU-MM01, or in a data set of its layout.

    Args:
        images: The test images.
        mode: `all` or `indoor`.
        shots: 1 or 10 gallery images of each identity and camera. Ten with sampler `agw` is this project's extension.
        sampler: `official` (the published permutations) or `agw` (most published numbers).
        permutations_path: Place of `rand_perm_cam.mat`; needed by `official`.
        trials: Number of galleries drawn; the protocol says ten.
        dataset: Name for the report.

    Raises:
        UserError: The permutation file is missing or does not fit the images, or a side has no image.
        ValueError: An argument is outside what is listed above, or a camera has images of the wrong modality.
    """
    for name, value, known in (
        ("mode", mode, tuple(SYSU_MM01_GALLERY_CAMERAS)),
        ("shots", shots, SYSU_MM01_SHOTS),
        ("sampler", sampler, SYSU_MM01_SAMPLERS),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}")
    is_query_N = np.isin(images.cameras, SYSU_MM01_QUERY_CAMERAS)
    if not np.array_equal(is_query_N, images.infrared):
        wrong = int(np.flatnonzero(is_query_N != images.infrared)[0])
        raise ValueError(f"cameras 3 and 6 alone are infrared; {images.paths[wrong]} says otherwise")

    cameras = SYSU_MM01_GALLERY_CAMERAS[mode]
    if sampler == "official":
        if permutations_path is None:
            raise ValueError("sampler 'official' needs permutations_path")
        draw = partial(draw_official, permutations=read_permutations(permutations_path))
    else:
        draw = draw_agw
    cells = group(images, np.isin(images.cameras, cameras))
    return Protocol(
        dataset=dataset,
        mode=mode,
        shots=shots,
        sampler=sampler,
        direction=INFRARED_TO_VISIBLE,
        queries=np.flatnonzero(is_query_N),
        galleries=tuple(draw(cells, cameras=cameras, shots=shots, trial=trial) for trial in range(trials)),
        exclude=same_room(*SYSU_MM01_SHARED_ROOM),
        cmc_by_identity=True,
    )


def regdb_protocol(images: Images, *, direction: str) -> Protocol:
    """Who queries whom in the split of RegDB that the model was trained for, in one of `DIRECTIONS`.

    UserError where a modality has no image, ValueError for an unknown direction.
    """
    return modality_protocol("regdb", images, direction=direction, trials=None, exclude=None)


def llcm_protocol(images: Images, *, direction: str, trials: int = 10) -> Protocol:
    """Who queries whom in LLCM, in one of `DIRECTIONS`; the protocol says ten trials. Errors as of `regdb_protocol`."""
    return modality_protocol(
        "llcm", images, direction=direction, trials=trials, exclude=same_identity_and_camera
    )


def folder_protocols(
    images: Images, *, directions: Iterable[str], exclude: Exclusion | None, trials: int = 10
) -> Iterator[Protocol]:
    """Who queries whom in a user's own images: the whole gallery in each direction, then the drawn galleries.

    Galleries are drawn where an identity has several images by one camera; else all of them would be the whole one.
    `exclude`: what a query ignores. Errors as of `regdb_protocol`.
    """
    whole = [
        modality_protocol("folder", images, direction=direction, trials=None, exclude=exclude)
        for direction in directions
    ]
    yield from whole
    for protocol in whole:
        drawn = modality_protocol(
            "folder", images, direction=protocol.direction, trials=trials, exclude=exclude
        )
        if len(drawn.galleries[0]) < len(protocol.galleries[0]):
            yield drawn


def modality_protocol(
    dataset: str, images: Images, *, direction: str, trials: int | None, exclude: Exclusion | None
) -> Protocol:
    """One modality queries the other: all of its images, or in each trial one of each identity and camera.

    With all of them (`trials` None) CMC counts images, with drawn ones identities.
    """
    is_query_N = images.infrared == query_is_infrared(direction)
    drawn = trials is not None
    galleries: tuple[IntArray, ...] = (np.flatnonzero(~is_query_N),)
    if drawn:
        cells = group(images, ~is_query_N)
        cameras = sorted({camera for _, camera in cells})
        galleries = tuple(draw_agw(cells, cameras=cameras, shots=1, trial=trial) for trial in range(trials))
    return Protocol(
        dataset=dataset,
        mode=None,
        shots=1 if drawn else None,
        sampler="agw" if drawn else None,
        direction=direction,
        queries=np.flatnonzero(is_query_N),
        galleries=galleries,
        exclude=exclude,
        cmc_by_identity=drawn,
    )
