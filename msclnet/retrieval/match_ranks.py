"""Ranks of the matches in a block of queries, counted and not sorted.

The rank of a match is one more than the number of kept gallery images before it, and a query has few matches: comparing
its whole row with each of them and counting bits is cheaper than sorting the row. Of equal distances the gallery image
with the lower column comes first, as in a stable sort.

Axes: G gallery images, B queries of a block, K identities of the gallery, P matches of one query (padded), M matches of
all rows one after another, V rows that have a match.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msclnet.retrieval.protocols import BoolArray, IntArray

COMPARED_CELLS = 1 << 20  # comparisons held at a time, one byte each: they stay in a core's own cache
MATCHES_AT_A_TIME = 64
TIES_AT_A_TIME = 512


@dataclass(frozen=True)
class Gallery:
    """The gallery's columns, grouped by identity."""

    identities: IntArray  # (K,) every identity once, ascending
    codes: IntArray  # (G,) each column's place in `identities`
    columns: IntArray  # (G,) the columns by identity; within one identity in gallery order
    counts: IntArray  # (K,) how many columns an identity has
    starts: IntArray  # (K,) where they start in `columns`

    @classmethod
    def of(cls, identities_G: IntArray) -> "Gallery":
        identities_K, codes_G, counts_K = np.unique(identities_G, return_inverse=True, return_counts=True)
        columns_G = np.argsort(codes_G, kind="stable")
        return cls(identities_K, codes_G, columns_G, counts_K, np.cumsum(counts_K) - counts_K)

    def matches(self, query_identities_B: IntArray) -> tuple[IntArray, IntArray]:
        """(row, column) of every cell whose gallery image shows the query's identity, row by row."""
        codes_B = np.searchsorted(self.identities, query_identities_B).clip(max=len(self.identities) - 1)
        known_B = self.identities[codes_B] == query_identities_B
        counts_B = np.where(known_B, self.counts[codes_B], 0)
        rows_M = np.repeat(np.arange(len(codes_B)), counts_B)
        within_M = np.arange(len(rows_M)) - np.repeat(np.cumsum(counts_B) - counts_B, counts_B)
        return rows_M, self.columns[self.starts[codes_B][rows_M] + within_M]


@dataclass(frozen=True)
class Matches:
    """The matches of a block of queries, by query and then by rank."""

    rows: IntArray  # (M,) which cell of the block it is, with `columns`
    columns: IntArray
    ranks: IntArray  # (M,) in the row, from 1
    tied: BoolArray  # (M,) whether another kept column of the row has the same distance


def rank_matches(
    distances_BG: NDArray[np.floating],
    query_identities_B: IntArray,
    gallery: Gallery,
    excluded_BG: BoolArray | None,
) -> Matches:
    """Rank of every match that is not excluded; `distances_BG` is overwritten with NaN where excluded."""
    rows_M, columns_M = gallery.matches(query_identities_B)
    if excluded_BG is not None:
        kept_M = ~excluded_BG[rows_M, columns_M]
        rows_M, columns_M = rows_M[kept_M], columns_M[kept_M]
        # NaN is neither below nor equal to anything, infinity included: it is never counted
        np.copyto(distances_BG, np.nan, where=excluded_BG)
    below_M, equal_M = _count_below_and_equal(distances_BG, rows_M, columns_M)
    tied_M = equal_M > 1
    ties = np.flatnonzero(tied_M)
    for start in range(0, len(ties), TIES_AT_A_TIME):
        some = ties[start : start + TIES_AT_A_TIME]
        equal_TG = distances_BG[rows_M[some]] == distances_BG[rows_M[some], columns_M[some]][:, None]
        equal_TG &= np.arange(distances_BG.shape[1]) < columns_M[some, None]
        below_M[some] += np.count_nonzero(equal_TG, axis=1)
    order_M = np.argsort(rows_M * distances_BG.shape[1] + below_M)
    return Matches(rows_M[order_M], columns_M[order_M], below_M[order_M] + 1, tied_M[order_M])


def count_identities_before(
    distances_BG: NDArray[np.floating],
    gallery: Gallery,
    *,
    rows_V: IntArray,
    columns_V: IntArray,
    tied_V: BoolArray,
) -> IntArray:
    """How many different identities come before column `columns_V` in row `rows_V`; (V,).

    `distances_BG` is NaN where excluded; `tied_V` says whether the column's distance occurs in its row again.
    """
    values_V1 = distances_BG[rows_V, columns_V][:, None]
    chosen_VG = distances_BG if len(rows_V) == len(distances_BG) else distances_BG[rows_V]
    before_VG = chosen_VG < values_V1
    if tied_V.any():
        lower_TG = np.arange(distances_BG.shape[1]) < columns_V[tied_V, None]
        before_VG[tied_V] |= lower_TG & (chosen_VG[tied_V] == values_V1[tied_V])

    # only the cells before the column are looked at: few, unless the ranking is bad
    cells = np.flatnonzero(before_VG)
    row = cells // distances_BG.shape[1]
    seen_VK = np.zeros((len(rows_V), len(gallery.identities)), np.bool_)
    seen_VK[row, gallery.codes[cells - row * distances_BG.shape[1]]] = True
    return np.count_nonzero(seen_VK, axis=1)


def _count_below_and_equal(
    distances_BG: NDArray[np.floating], rows_M: IntArray, columns_M: IntArray
) -> tuple[IntArray, IntArray]:
    """How many entries of each match's row are below it, and how many equal to it, itself included."""
    height, width = distances_BG.shape
    counts_B = np.bincount(rows_M, minlength=height)
    place_M = np.arange(len(rows_M)) - np.repeat(np.cumsum(counts_B) - counts_B, counts_B)
    values_BP = np.full((height, counts_B.max(initial=0)), np.nan, distances_BG.dtype)
    values_BP[rows_M, place_M] = distances_BG[rows_M, columns_M]

    below_BP = np.zeros(values_BP.shape, np.int64)
    equal_BP = np.zeros(values_BP.shape, np.int64)
    padded = -(-width // 64) * 64
    matches = min(values_BP.shape[1], MATCHES_AT_A_TIME)
    rows = max(1, COMPARED_CELLS // max(1, matches * padded))
    buffer = np.zeros((rows, matches, padded), np.bool_)
    for top in range(0, height, rows):
        row_B1G = distances_BG[top : top + rows, None, :]
        for left in range(0, values_BP.shape[1], MATCHES_AT_A_TIME):
            part = (slice(top, top + rows), slice(left, left + MATCHES_AT_A_TIME))
            value_BP1 = values_BP[part][:, :, None]
            hit_BPW = buffer[: value_BP1.shape[0], : value_BP1.shape[1]]
            np.less(row_B1G, value_BP1, out=hit_BPW[:, :, :width])
            below_BP[part] = _count_true(hit_BPW)
            np.equal(row_B1G, value_BP1, out=hit_BPW[:, :, :width])
            equal_BP[part] = _count_true(hit_BPW)
    return below_BP[rows_M, place_M], equal_BP[rows_M, place_M]


def _count_true(hit_BPW: BoolArray) -> IntArray:
    """Count along the last axis, a multiple of 64 long: eight times as fast as `np.count_nonzero` there."""
    words = np.packbits(hit_BPW.reshape(-1)).view(np.uint64).reshape(*hit_BPW.shape[:2], -1)
    return np.bitwise_count(words).sum(axis=2, dtype=np.int64)
