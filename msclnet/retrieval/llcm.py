"""LLCM's test protocol.

Every test image of one modality queries a gallery of one random image of each identity and camera of the
other, ten trials. A query ignores the images of its own identity by its own camera. CMC counts identities.

Directions are named by the query: `visible-to-infrared` has visible queries. Public code draws the infrared
images and scores them as queries against all visible ones under the name "visible to infrared"; those numbers
are not comparable with either direction here. Its "infrared to visible" is the same as here.

Source: Zhang and Wang, CVPR 2023 (DEEN).
"""

import numpy as np

from msclnet.retrieval.exclusion import same_identity_and_camera
from msclnet.retrieval.protocol import Images, Protocol, query_is_infrared
from msclnet.retrieval.sampling import draw_agw, group

CAMERAS = tuple(range(1, 10))


def llcm_protocol(images: Images, *, direction: str, trials: int = 10, dataset: str = "llcm") -> Protocol:
    """Who queries whom in LLCM.

    Args:
        images: The test images.
        direction: One of `protocol.DIRECTIONS`, named by the query.
        trials: Number of galleries drawn; the protocol says ten.
        dataset: Name for the report.

    Raises:
        UserError: A modality has no image.
        ValueError: The direction is unknown.
    """
    is_query_N = images.infrared == query_is_infrared(direction)
    cells = group(images, ~is_query_N)
    return Protocol(
        dataset=dataset,
        mode=None,
        shots=1,
        sampler="agw",
        direction=direction,
        queries=np.flatnonzero(is_query_N),
        galleries=tuple(draw_agw(cells, cameras=CAMERAS, shots=1, trial=trial) for trial in range(trials)),
        exclude=same_identity_and_camera,
        cmc_by_identity=True,
    )
