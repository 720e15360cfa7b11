"""SYSU-MM01's test protocol.

3,803 queries (every test image of infrared cameras 3 and 6) in both modes. Gallery: one image, or ten, of
each identity and visible camera; all-search has 301 (3,010) images of cameras 1, 2, 4 and 5, indoor-search 112
(1,120) of cameras 1 and 2, where 2,208 queries have a match. Camera 3 stands in the room of camera 2: its
queries ignore that camera's images. CMC counts identities.

Source: Wu et al., ICCV 2017, and its published evaluation; AGW sampling from Ye et al., TPAMI 2021.
"""

from functools import partial
from pathlib import Path

import numpy as np

from msclnet.retrieval.exclusion import same_room
from msclnet.retrieval.permutations import read_permutations
from msclnet.retrieval.protocol import INFRARED_TO_VISIBLE, Images, Protocol
from msclnet.retrieval.sampling import draw_agw, draw_official, group

QUERY_CAMERAS = (3, 6)
GALLERY_CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
ROOM = (2, 3)
SHOTS = (1, 10)
SAMPLERS = ("official", "agw")


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
        ("mode", mode, tuple(GALLERY_CAMERAS)),
        ("shots", shots, SHOTS),
        ("sampler", sampler, SAMPLERS),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}")
    is_query_N = np.isin(images.cameras, QUERY_CAMERAS)
    if not np.array_equal(is_query_N, images.infrared):
        wrong = int(np.flatnonzero(is_query_N != images.infrared)[0])
        raise ValueError(f"cameras 3 and 6 alone are infrared; {images.paths[wrong]} says otherwise")

    cameras = GALLERY_CAMERAS[mode]
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
        exclude=same_room(*ROOM),
        cmc_by_identity=True,
    )
