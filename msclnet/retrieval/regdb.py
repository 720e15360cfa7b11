"""RegDB's test protocol: every image of one modality queries every image of the other.

206 test identities with ten visible and ten thermal images each: 2,060 queries, 2,060 gallery images. One
model is trained for each of the ten published splits and scored on that split only; scoring one model on all
ten lets it see its training identities. No camera exclusion, CMC counts images.

Source: Nguyen et al., Sensors 2017; splits as in Ye et al., TPAMI 2021 (AGW).
"""

import numpy as np

from msclnet.retrieval.protocol import Images, Protocol, query_is_infrared


def regdb_protocol(images: Images, *, direction: str, dataset: str = "regdb") -> Protocol:
    """Who queries whom in one split of RegDB.

    Args:
        images: The test images of the split that the model was trained for.
        direction: One of `protocol.DIRECTIONS`, named by the query.
        dataset: Name for the report.

    Raises:
        UserError: A modality has no image.
        ValueError: The direction is unknown.
    """
    is_query_N = images.infrared == query_is_infrared(direction)
    return Protocol(
        dataset=dataset,
        mode=None,
        shots=None,
        sampler=None,
        direction=direction,
        queries=np.flatnonzero(is_query_N),
        galleries=(np.flatnonzero(~is_query_N),),
        exclude=None,
        cmc_by_identity=False,
    )
