"""k-reciprocal re-ranking: images that are among each other's nearest come closer together.

Each image is described by its k-reciprocal neighbours, and two images are near when these descriptions overlap.
It uses all queries and the whole gallery at once, so a query's list depends on the other queries: figures
with it compare only with figures with it, and a report must say so.

Source: Zhong et al., CVPR 2017 (k1 = 20, k2 = 6, lambda = 0.3 there). Where its equations and its authors' published
code differ, the figures that people report come from the code, and so this follows the code: queries and gallery
images are neighbours alike; an image is the first of its own neighbours; an expansion needs more than two thirds in
common (eq. 5 says at least); weights are divided by their sum.

Axes: Q queries, G gallery images, A = Q + G all images, queries first; R rows of a block of them; K neighbours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

Floats = NDArray[np.floating]

BLOCK_ROWS = 512


@dataclass(frozen=True)
class ReRanking:
    """Settings of the method; ValueError where k1 or k2 is below 1, or lambda_value outside [0, 1]."""

    k1: int  # neighbours that must be mutual; theirs are sought among k1 / 2
    k2: int  # nearest images, itself among them, over which a description is averaged; 1: itself alone
    lambda_value: float  # share of the original distance in the result, the rest is the Jaccard distance

    def __post_init__(self) -> None:
        if min(self.k1, self.k2) < 1 or not 0 <= self.lambda_value <= 1:
            raise ValueError(f"k1 and k2 must be at least 1 and lambda_value within [0, 1], got {self}")


def re_rank(
    query_query_QQ: Floats, query_gallery_QG: Floats, gallery_gallery_GG: Floats, settings: ReRanking
) -> NDArray[np.float32]:
    """Re-ranked distances of every query to every gallery image.

    The authors feed squared Euclidean distances of L2-normalised features. Those are twice the cosine
    distances, and as each row is divided by its maximum, the two give the same result.

    Args:
        query_query_QQ: (Q, Q) distances, symmetric.
        query_gallery_QG: (Q, G) distances.
        gallery_gallery_GG: (G, G) distances, symmetric.
        settings: See `ReRanking`. A k beyond the number of images means all of them.

    Returns:
        float32 (Q, G), lambda * original + (1 - lambda) * Jaccard, smaller is nearer, in [0, 1]; "original" is the
        given distance divided by the query's largest one to any image.

    Raises:
        ValueError: The shapes do not fit together, or a distance is NaN or infinite.
    """
    _check(query_query_QQ, query_gallery_QG, gallery_gallery_GG)
    queries, gallery = query_gallery_QG.shape
    count = queries + gallery
    most = min(max(settings.k1 + 1, settings.k2), count)
    nearest_AK = np.empty((count, most), np.int32)
    largest_A = np.empty(count)
    for rows, block_RA in _blocks(query_query_QQ, query_gallery_QG, gallery_gallery_GG):
        largest_A[rows] = block_RA.max(axis=1)
        nearest_AK[rows] = _nearest(block_RA, first=rows.start, k=most)
    largest_A[largest_A <= 0] = 1  # all images the same
    members = _expanded_neighbours(nearest_AK, settings.k1)
    for rows, block_RA in _blocks(query_query_QQ, query_gallery_QG, gallery_gallery_GG):
        start, end = members.indptr[rows.start], members.indptr[rows.stop]
        of_rows = np.repeat(np.arange(len(block_RA)), np.diff(members.indptr[rows.start : rows.stop + 1]))
        scaled = block_RA[of_rows, members.indices[start:end]] / largest_A[rows][of_rows]
        members.data[start:end] = np.exp(-scaled)
    weights = _divide_rows(members, members.sum(axis=1))
    if settings.k2 > 1:
        nearest = _indicator(nearest_AK[:, : settings.k2])
        weights = _divide_rows(nearest @ weights, nearest.sum(axis=1))
    jaccard_QG = _jaccard_distances(weights, queries, gallery)
    original_QG = query_gallery_QG / largest_A[:queries, None]
    mixed_QG = settings.lambda_value * original_QG + (1 - settings.lambda_value) * jaccard_QG
    return mixed_QG.astype(np.float32)


def _check(query_query_QQ: Floats, query_gallery_QG: Floats, gallery_gallery_GG: Floats) -> None:
    if query_gallery_QG.ndim != 2 or 0 in query_gallery_QG.shape:
        raise ValueError(f"query-gallery distances must be (Q, G), not {query_gallery_QG.shape}")
    queries, gallery = query_gallery_QG.shape
    for name, matrix, shape in (
        ("query-query", query_query_QQ, (queries, queries)),
        ("query-gallery", query_gallery_QG, (queries, gallery)),
        ("gallery-gallery", gallery_gallery_GG, (gallery, gallery)),
    ):
        if matrix.shape != shape:
            raise ValueError(f"{name} distances have shape {matrix.shape}, expected {shape}")
        if not all(np.isfinite(matrix[i : i + BLOCK_ROWS]).all() for i in range(0, len(matrix), BLOCK_ROWS)):
            raise ValueError(f"{name} distances hold NaN or infinity")


def _blocks(qq: Floats, qg: Floats, gg: Floats) -> Iterator[tuple[slice, Floats]]:
    """Some rows at a time of the (A, A) distances, which are never held as a whole."""
    queries = len(qq)
    for first, left, right in ((0, qq, qg), (queries, qg.T, gg)):
        for start in range(0, len(left), BLOCK_ROWS):
            part = slice(start, min(start + BLOCK_ROWS, len(left)))
            yield slice(first + part.start, first + part.stop), np.hstack([left[part], right[part]])


def _nearest(block_RA: Floats, *, first: int, k: int) -> NDArray[np.int32]:
    """(R, k) positions of the k nearest, each row's own image first; among equals the position decides."""
    block_RA[np.arange(len(block_RA)), first + np.arange(len(block_RA))] = -np.inf
    kth_R1 = np.partition(block_RA, k - 1, axis=1)[:, k - 1 : k]
    rows, columns = np.nonzero(block_RA <= kth_R1)
    order = np.lexsort((block_RA[rows, columns], rows))  # stable
    starts_R = np.searchsorted(rows, np.arange(len(block_RA)))
    return columns[order][starts_R[:, None] + np.arange(k)].astype(np.int32)


def _indicator(columns_AK: NDArray[np.int32]) -> csr_array:
    """Sparse (A, A), 1 at each row's columns."""
    count, k = columns_AK.shape
    starts = np.arange(count + 1) * k
    return csr_array((np.ones(count * k), columns_AK.ravel(), starts), shape=(count, count))


def _mutual_neighbours(nearest_AK: NDArray[np.int32], k: int) -> csr_array:
    """Sparse (A, A), 1 where each of two images is among the other's k nearest, itself left out: R(p, k)."""
    neighbours = _indicator(nearest_AK[:, : k + 1])
    return csr_array(neighbours.multiply(neighbours.T))


def _expanded_neighbours(nearest_AK: NDArray[np.int32], k1: int) -> csr_array:
    """Sparse (A, A), positive at R*(p, k1): mutual neighbours and most of theirs; columns ascend."""
    mutual = _mutual_neighbours(nearest_AK, k1)
    closer = _mutual_neighbours(nearest_AK, round(k1 / 2))
    common = csr_array((mutual @ closer.T).multiply(mutual))
    sizes = closer.sum(axis=1)
    common.data = (3 * common.data > 2 * sizes[common.indices]).astype(float)
    expanded = csr_array(mutual + common @ closer)
    expanded.eliminate_zeros()
    expanded.sort_indices()
    return expanded


def _divide_rows(matrix: csr_array, divisors: NDArray) -> csr_array:
    matrix.data /= np.repeat(divisors, np.diff(matrix.indptr))
    return matrix


def _jaccard_distances(weights: csr_array, queries: int, gallery: int) -> NDArray[np.float64]:
    """1 - sum of minima / sum of maxima, for each query and gallery image; rows of `weights` sum to 1."""
    columns = csc_array(weights)
    minima_QG = np.zeros((queries, gallery))
    for start, end in zip(columns.indptr[:-1], columns.indptr[1:], strict=True):
        images, values = columns.indices[start:end], columns.data[start:end]
        split = np.searchsorted(images, queries)
        if 0 < split < len(images):
            rows, places = images[:split, None], images[split:] - queries
            minima_QG[rows, places] += np.minimum(values[:split, None], values[split:])
    return 1 - minima_QG / (2 - minima_QG)
