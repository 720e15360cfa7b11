"""From a distance matrix to CMC, mAP and mINP: `rank`.

Axes: Q queries, G gallery images, R ranks, B queries of a block, M matches of all rows one after another, V rows that
have a match.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msclnet.retrieval.match_ranks import Gallery, count_identities_before, rank_matches
from msclnet.retrieval.protocols import BoolArray, Exclusion, IntArray

BLOCK_CELLS = 1 << 18  # distances at a time: in double precision 2 MiB, which stay in a core's own cache


@dataclass(frozen=True)
class QueryScores:
    """The scores of each query; all 0 for an invalid one, which has no match left."""

    first: IntArray  # (Q,) rank of the first match, from 1
    average_precision: NDArray[np.float64]  # (Q,) in (0, 1]
    inverse_penalty: NDArray[np.float64]  # (Q,) number of matches / rank of the last one, in (0, 1]


def score_queries(
    distances_QG: ArrayLike,
    query_identities: ArrayLike,
    gallery_identities: ArrayLike,
    *,
    query_cameras: ArrayLike | None = None,
    gallery_cameras: ArrayLike | None = None,
    exclude: Exclusion | BoolArray | None = None,
    cmc_by_identity: bool = False,
) -> QueryScores:
    """The scores of each query: the first half of `rank`, with its arguments and errors.

    Beyond the distances it needs memory for one block of `BLOCK_CELLS`, or one row, whatever the number of queries.
    """
    distances_QG = np.asarray(distances_QG)
    query_identities_Q, gallery_identities_G = np.asarray(query_identities), np.asarray(gallery_identities)
    shape = (len(query_identities_Q), len(gallery_identities_G))
    _check_shape("distances", distances_QG, shape)
    _check_shape("query_identities", query_identities_Q, shape[:1])
    _check_shape("gallery_identities", gallery_identities_G, shape[1:])
    # float16 and integers (to 2**53) fit without loss: no two distances become equal or change places
    dtype = np.result_type(distances_QG.dtype, np.float32)
    mask_QG = None if exclude is None or callable(exclude) else np.asarray(exclude, np.bool_)
    if mask_QG is not None:
        _check_shape("exclude", mask_QG, shape)
    rule = exclude if callable(exclude) else None
    query_cameras_Q, gallery_cameras_G = np.asarray(query_cameras), np.asarray(gallery_cameras)
    if rule is not None:
        if query_cameras is None or gallery_cameras is None:
            raise ValueError("an exclusion rule needs query_cameras and gallery_cameras")
        _check_shape("query_cameras", query_cameras_Q, shape[:1])
        _check_shape("gallery_cameras", gallery_cameras_G, shape[1:])

    scores = _no_scores(shape[0])
    if 0 in shape:
        return scores
    gallery = Gallery.of(gallery_identities_G)
    height = max(1, BLOCK_CELLS // shape[1])
    for start in range(0, shape[0], height):
        rows = slice(start, start + height)
        block_BG = distances_QG[rows].astype(dtype, order="C")
        if np.isnan(block_BG.min()):  # NaN if one is among them
            row, column = np.argwhere(np.isnan(block_BG))[0]
            raise ValueError(f"the distance of query {start + row} to gallery image {column} is NaN")
        excluded_BG = None if mask_QG is None else mask_QG[rows]
        if rule is not None:
            excluded_BG = rule(
                query_identities_Q[rows], query_cameras_Q[rows], gallery_identities_G, gallery_cameras_G
            )
        block = _score_block(
            block_BG, query_identities_Q[rows], gallery, excluded_BG, by_identity=cmc_by_identity
        )
        scores.first[rows] = block.first
        scores.average_precision[rows] = block.average_precision
        scores.inverse_penalty[rows] = block.inverse_penalty
    return scores


def _score_block(
    distances_BG: NDArray[np.floating],
    query_identities_B: IntArray,
    gallery: Gallery,
    excluded_BG: BoolArray | None,
    *,
    by_identity: bool,
) -> QueryScores:
    found = rank_matches(distances_BG, query_identities_B, gallery, excluded_BG)
    size = len(distances_BG)
    counts_B = np.bincount(found.rows, minlength=size)
    ends_B = np.cumsum(counts_B)
    nth_M = np.arange(1, len(found.rows) + 1) - (ends_B - counts_B)[found.rows]
    precision_B = np.bincount(found.rows, weights=nth_M / found.ranks, minlength=size)

    valid_B = np.flatnonzero(counts_B)
    count_V, end_V = counts_B[valid_B], ends_B[valid_B]
    first_V = end_V - count_V
    scores = _no_scores(size)
    scores.average_precision[valid_B] = precision_B[valid_B] / count_V
    scores.inverse_penalty[valid_B] = count_V / found.ranks[end_V - 1]
    if by_identity:
        others_V = count_identities_before(
            distances_BG,
            gallery,
            rows_V=valid_B,
            columns_V=found.columns[first_V],
            tied_V=found.tied[first_V],
        )
        scores.first[valid_B] = others_V + 1
    else:
        scores.first[valid_B] = found.ranks[first_V]
    return scores


def _no_scores(queries: int) -> QueryScores:
    return QueryScores(np.zeros(queries, np.int64), np.zeros(queries), np.zeros(queries))


def _check_shape(name: str, array: NDArray, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ValueError(f"{name} has shape {array.shape}; with these identities it must be {expected}")


@dataclass(frozen=True)
class Ranking:
    """Means over the valid queries, all as fractions in [0, 1]."""

    # (R,) entry k - 1 is Rank-k: the share of queries with a match among their first k.
    cmc: NDArray[np.float64]
    mAP: float
    mINP: float
    valid: int  # queries with at least one match in their list; the means are over these
    queries: int  # all of them

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
        exclude: What a query ignores: a rule of `msclnet.retrieval.protocols`, or a bool matrix (Q, G) that is
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
