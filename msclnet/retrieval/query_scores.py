"""How each query fares on its own.

Axes: Q queries, G gallery images, B queries of a block, M matches of a block's rows one after another, V rows
of a block that have a match.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msclnet.retrieval.exclusion import BoolArray, Exclusion, IntArray
from msclnet.retrieval.match_ranks import Gallery, count_identities_before, rank_matches

BLOCK_CELLS = 1 << 18  # distances at a time: in double precision 2 MiB, which stay in a core's own cache


@dataclass(frozen=True)
class QueryScores:
    """How each query fared on its own.

    Attributes:
        first: (Q,) rank of the first match, from 1; 0 for an invalid query, one without a match left.
        average_precision: (Q,) in (0, 1]; 0 for an invalid query.
        inverse_penalty: (Q,) number of matches / rank of the last one, in (0, 1]; 0 for an invalid query.
    """

    first: IntArray
    average_precision: NDArray[np.float64]
    inverse_penalty: NDArray[np.float64]


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
    """How each query fares on its own: the first half of `ranking.rank`, with its arguments and errors.

    Beyond the distances it needs memory for one block of `BLOCK_CELLS`, or one row, however many queries there are.
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
    if rule is not None and (query_cameras is None or gallery_cameras is None):
        raise ValueError("an exclusion rule needs query_cameras and gallery_cameras")
    query_cameras_Q, gallery_cameras_G = np.asarray(query_cameras), np.asarray(gallery_cameras)
    if rule is not None:
        _check_shape("query_cameras", query_cameras_Q, shape[:1])
        _check_shape("gallery_cameras", gallery_cameras_G, shape[1:])

    scores = QueryScores(np.zeros(shape[0], np.int64), np.zeros(shape[0]), np.zeros(shape[0]))
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
    scores = QueryScores(np.zeros(size, np.int64), np.zeros(size), np.zeros(size))
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


def _check_shape(name: str, array: NDArray, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ValueError(f"{name} has shape {array.shape}; with these identities it must be {expected}")
