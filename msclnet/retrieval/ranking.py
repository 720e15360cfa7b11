"""From a distance matrix to CMC, mAP and mINP.

Axes: Q queries, G gallery images, R ranks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msclnet.retrieval.exclusion import BoolArray, Exclusion
from msclnet.retrieval.query_scores import QueryScores, score_queries


@dataclass(frozen=True)
class Ranking:
    """Means over the valid queries, all as fractions in [0, 1].

    Attributes:
        cmc: (R,) entry k - 1 is Rank-k: the share of queries with a match among their first k.
        mAP: Mean average precision.
        mINP: Mean inverse negative penalty.
        valid: Number of queries with at least one match in their list; the means are over these.
        queries: Number of all queries.
    """

    cmc: NDArray[np.float64]
    mAP: float
    mINP: float
    valid: int
    queries: int

    def at(self, rank: int) -> float:
        """Rank-k accuracy: `at(1)` is Rank-1."""
        if not 1 <= rank <= len(self.cmc):
            raise ValueError(f"rank {rank} is not within 1 .. {len(self.cmc)}")
        return float(self.cmc[rank - 1])


def rank(
    distances_QG: ArrayLike,
    query_identities: ArrayLike,
    gallery_identities: ArrayLike,
    *,
    query_cameras: ArrayLike | None = None,
    gallery_cameras: ArrayLike | None = None,
    exclude: Exclusion | BoolArray | None = None,
    cmc_by_identity: bool = False,
    max_rank: int = 20,
) -> Ranking:
    """CMC, mAP and mINP of a distance matrix.

    Each query's list is the gallery by ascending distance, without what `exclude` removes. Where distances
    are equal, the image that comes first in the gallery comes first in the list (a stable sort).

    Args:
        distances_QG: Real numbers of any sign, smaller means more alike; infinity is allowed, NaN is not.
            Similarities are passed negated. float32 and float64 are ranked as they are.
        query_identities: Identity of each query.
        gallery_identities: Identity of each gallery image.
        query_cameras: Camera of each query; needed by an `exclude` that is a rule.
        gallery_cameras: Camera of each gallery image; likewise.
        exclude: What a query ignores: a rule of `msclnet.retrieval.exclusion`, or a bool matrix (Q, G) that is
            true where ignored, or nothing.
        cmc_by_identity: Count CMC's ranks on the list of identities in order of first appearance, as SYSU-MM01
            and LLCM do, and not on the list of images. mAP and mINP are on the list of images either way.
        max_rank: Length of the CMC curve.

    Returns:
        The means over the valid queries. A gallery with fewer than `max_rank` entries leaves the rest of the
        curve level.

    Raises:
        ValueError: Shapes disagree, a distance is NaN, a rule has no cameras to work on, or no query has a
            match left.

    Sources: mAP as in Zheng et al., ICCV 2015; mINP as in Ye et al., TPAMI 2021 (AGW).

    >>> result = rank([[0.1, 0.2, 0.3]], [7], [5, 7, 7])
    >>> result.at(1), result.at(2), round(result.mAP, 4), round(result.mINP, 4), result.valid
    (0.0, 1.0, 0.5833, 0.6667, 1)
    """
    scores = score_queries(
        distances_QG,
        query_identities,
        gallery_identities,
        query_cameras=query_cameras,
        gallery_cameras=gallery_cameras,
        exclude=exclude,
        cmc_by_identity=cmc_by_identity,
    )
    return mean_over_valid(scores, max_rank=max_rank)


def mean_over_valid(scores: QueryScores, *, max_rank: int = 20) -> Ranking:
    """The second half of `rank`: from single queries to means over the valid ones."""
    if max_rank < 1:
        raise ValueError(f"max_rank must be at least 1, got {max_rank}")
    valid_Q = scores.first > 0
    valid = int(valid_Q.sum())
    if not valid:
        raise ValueError(f"none of the {len(valid_Q)} queries has a match in its gallery")
    found_R = np.bincount(np.minimum(scores.first[valid_Q], max_rank + 1), minlength=max_rank + 2)
    return Ranking(
        cmc=np.cumsum(found_R[1 : max_rank + 1]) / valid,
        mAP=float(scores.average_precision[valid_Q].mean()),
        mINP=float(scores.inverse_penalty[valid_Q].mean()),
        valid=valid,
        queries=len(valid_Q),
    )
