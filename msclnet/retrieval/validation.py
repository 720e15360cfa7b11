"""The score by which a model is chosen, on identities that are neither trained on nor tested on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from msclnet.retrieval.evaluation import evaluate
from msclnet.retrieval.exclusion import Exclusion
from msclnet.retrieval.protocol import DIRECTIONS, Images, Protocol, query_is_infrared
from msclnet.retrieval.sampling import draw_agw, group


def validation_protocols(
    images: Images, *, exclude: Exclusion | None = None, draws: int = 5, dataset: str = "validation"
) -> tuple[Protocol, Protocol]:
    """Both directions, with several galleries of one image of each identity and camera.

    The draws are the same at every call, so that epochs and models meet the same galleries.

    Args:
        images: The validation images.
        exclude: What a query ignores, as in the data set's test (`same_room(2, 3)` for SYSU-MM01's layout).
        draws: Number of galleries in each direction.
        dataset: Name for the report.

    Raises:
        UserError: A modality has no image.
    """

    def one(direction: str) -> Protocol:
        is_query_N = images.infrared == query_is_infrared(direction)
        cells = group(images, ~is_query_N)
        cameras = sorted({camera for _, camera in cells})
        return Protocol(
            dataset=dataset,
            mode=None,
            shots=1,
            sampler="agw",
            direction=direction,
            queries=np.flatnonzero(is_query_N),
            galleries=tuple(draw_agw(cells, cameras=cameras, shots=1, trial=draw) for draw in range(draws)),
            exclude=exclude,
            cmc_by_identity=True,
        )

    return one(DIRECTIONS[0]), one(DIRECTIONS[1])


def validate(
    features_ND: NDArray, images: Images, protocols: Sequence[Protocol], *, feature: str = "bnneck"
) -> tuple[float, list[dict]]:
    """M and the reports that it comes from.

    M is the mean of Rank-1 and mAP over the directions: a model must be right at the top and in the rest of
    the list, whichever modality asks.

    Args:
        features_ND: One feature an image.
        images: What is known of the same images.
        protocols: As `validation_protocols` gives them.
        feature: Name of the feature for the reports.

    Returns:
        M in [0, 1], and one report of `evaluation.evaluate` for each protocol.
    """
    reports = [evaluate(features_ND, images, protocol, feature=feature) for protocol in protocols]
    score = float(np.mean([report[name]["mean"] for report in reports for name in ("rank1", "mAP")]))
    return score, reports
