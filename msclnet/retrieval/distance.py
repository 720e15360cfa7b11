"""Cosine distances between features, in double precision.

Public evaluation code multiplies in double precision. In single precision, distances that lie within one rounding
of each other become equal or change places, and figures differ from the public ones by single queries.

Axes: Q queries, G gallery images, N images, D feature width, B rows of a block.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

BLOCK_ROWS = 512


def l2_normalise(features_ND: NDArray, *, first: int = 0) -> NDArray[np.float64]:
    """Every feature (N, D) of any real type scaled to length 1, as a float64 copy.

    ValueError where a row has no direction; `first` is the number of the first row in its message.
    """
    normalised_ND = np.array(features_ND, np.float64)
    if normalised_ND.ndim != 2:
        raise ValueError(f"features must be (images, width), got shape {normalised_ND.shape}")
    for start in range(0, len(normalised_ND), BLOCK_ROWS):
        block_BD = normalised_ND[start : start + BLOCK_ROWS]
        lengths_B = np.sqrt(np.einsum("bd,bd->b", block_BD, block_BD))
        bad_B = ~np.isfinite(lengths_B) | (lengths_B == 0)
        if bad_B.any():
            row = int(np.argmax(bad_B))
            fault = "is all zeros" if lengths_B[row] == 0 else "holds NaN or infinity"
            raise ValueError(
                f"feature {first + start + row} {fault} ({int(bad_B.sum())} such in its block): it has no direction"
            )
        block_BD /= lengths_B[:, None]
    return normalised_ND


def unit_distances(queries_QD: Floats, gallery_GD: Floats) -> Floats:
    """1 - cosine for features that already have length 1 (see `cosine_distances`), in their own precision."""
    distances_QG = queries_QD @ gallery_GD.T
    np.subtract(1, distances_QG, out=distances_QG)
    return distances_QG


def cosine_distances(queries_QD: NDArray, gallery_GD: NDArray) -> NDArray[np.float64]:
    """1 - cosine of every query to every gallery image: float64 (Q, G), from 0 to 2, up to rounding.

    Features are L2-normalised first; ValueError where the widths differ or one has no direction.
    """
    queries_QD, gallery_GD = np.asarray(queries_QD), np.asarray(gallery_GD)
    if queries_QD.ndim != 2 or gallery_GD.ndim != 2 or queries_QD.shape[1] != gallery_GD.shape[1]:
        raise ValueError(
            "queries and gallery must be (images, width) of one width, "
            f"got {queries_QD.shape} and {gallery_GD.shape}"
        )
    gallery_GD = l2_normalise(gallery_GD)
    distances_QG = np.empty((len(queries_QD), len(gallery_GD)))
    for start in range(0, len(queries_QD), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        distances_QG[rows] = unit_distances(l2_normalise(queries_QD[rows], first=start), gallery_GD)
    return distances_QG


def rank_gallery(queries_QD: NDArray, gallery_GD: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Order the gallery for each query, the most similar image first.

    Returns gallery positions int64 (Q, G) and, in that order, the cosine similarities float64 (Q, G), from -1 to 1.
    Among equally similar images the gallery's order decides. Errors as of `cosine_distances`.
    """
    similarities_QG = np.clip(1 - cosine_distances(queries_QD, gallery_GD), -1, 1)
    order_QG = np.argsort(-similarities_QG, axis=1, kind="stable")
    return order_QG, np.take_along_axis(similarities_QG, order_QG, axis=1)
