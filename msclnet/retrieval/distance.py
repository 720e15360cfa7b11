"""Cosine distances between features, in double precision.

Public evaluation code multiplies in double precision. In single precision, distances that lie within one rounding
of each other become equal or change places, and figures differ from the public ones by single queries.

Axes: Q queries, G gallery images, N images, D feature width.

Search without labels: each query's whole gallery in order of similarity, or its nearest images alone.

Axes: Q queries, G gallery images, D feature width, K nearest images, B gallery images at a time.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

BLOCK_ROWS = 512


def l2_normalise(features_ND: NDArray, *, first: int = 0) -> NDArray[np.float64]:
    """Scale every feature to length 1.

    Args:
        features_ND: Features of any real type, one row an image.
        first: Number of the first row, for messages about a part of an array.

    Returns:
        float64 (N, D), a copy.

    Raises:
        ValueError: The array is not (N, D), a row holds NaN or infinity, or a row has length 0.
    """
    features_ND = np.asarray(features_ND)
    if features_ND.ndim != 2:
        raise ValueError(f"features must be (images, width), got shape {features_ND.shape}")
    normalised_ND = features_ND.astype(np.float64)
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
    """Cosine distance of every query to every gallery image.

    The features are brought to length 1 first, so their scale is of no account.

    Args:
        queries_QD: Query features.
        gallery_GD: Gallery features of the same width.

    Returns:
        float64 (Q, G), 1 - cosine, from 0 (same direction) to 2 (opposite), up to rounding.

    Raises:
        ValueError: The widths differ, a feature is all zeros, or it holds NaN or infinity.
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


BLOCK_IMAGES = 8192  # of the gallery at a time: 128 MiB of 2048-wide features
# Lengths whose squares single precision still tells apart from 0 and infinity.
SMALLEST, LARGEST = 1e-12, 1e12


def rank_gallery(queries_QD: NDArray, gallery_GD: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Order the gallery for each query, the most similar image first.

    Args:
        queries_QD: Query features; their scale is of no account.
        gallery_GD: Gallery features of the same width.

    Returns:
        Gallery positions int64 (Q, G) and, in that order, the cosine similarities float64 (Q, G), from -1 to 1.
        Among equally similar images the gallery's order decides.

    Raises:
        ValueError: The widths differ, a feature is all zeros, or it holds NaN or infinity.
    """
    similarities_QG = np.clip(1 - cosine_distances(queries_QD, gallery_GD), -1, 1)
    order_QG = np.argsort(-similarities_QG, axis=1, kind="stable")
    return order_QG, np.take_along_axis(similarities_QG, order_QG, axis=1)


def nearest(
    queries_QD: NDArray, gallery_GD: NDArray, *, count: int, block: int = BLOCK_IMAGES
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The first columns of `rank_gallery`, exactly, for galleries that are too large to be ordered or copied.

    The gallery is read once, from its beginning to its end; beside it, memory is needed for one block's features and
    similarities. Single precision rules out what cannot be among the nearest; the rest is compared in double
    precision, as `rank_gallery` does.

    Args:
        queries_QD: Query features; their scale is of no account.
        gallery_GD: Gallery features of the same width and of any real type, an array or a memory map.
        count: K, at least 1; a smaller gallery is given whole.
        block: B, at least 1.

    Returns:
        Gallery positions int64 (Q, K) and their cosine similarities float64 (Q, K), the most similar first. Among
        equally similar images the gallery's order decides.

    Raises:
        ValueError: The widths differ, a feature is all zeros, or it holds NaN or infinity; `count` or `block` is below
            1.
    """
    if queries_QD.ndim != 2 or gallery_GD.ndim != 2 or queries_QD.shape[1] != gallery_GD.shape[1]:
        raise ValueError(
            "queries and gallery must be (images, width) of one width, "
            f"got {queries_QD.shape} and {gallery_GD.shape}"
        )
    if count < 1 or block < 1:
        raise ValueError(f"count and block must be at least 1, not {count} and {block}")
    queries_QD = l2_normalise(queries_QD)
    positions = [np.empty(0, np.int64) for _ in queries_QD]
    similarities = [np.empty(0) for _ in queries_QD]
    for start in range(0, len(gallery_GD), block):
        block_BD = gallery_GD[start : start + block]
        if start >= count:  # each query has its K
            kept_C = possible(queries_QD, block_BD, np.array([last[-1] for last in similarities]))
        else:
            kept_C = np.arange(len(block_BD))
        # A feature without a direction is never left out, and then nothing is: `first` gives its number.
        features_CD = l2_normalise(block_BD[kept_C], first=start)
        similarities_QC = np.clip(1 - unit_distances(queries_QD, features_CD), -1, 1)
        for q, row_C in enumerate(similarities_QC):
            # Earlier images win ties: once there are K, only what is truly more similar than the last of them counts.
            full = len(positions[q]) >= count
            better = np.flatnonzero(row_C > similarities[q][-1]) if full else np.arange(len(row_C))
            if not len(better):
                continue
            merged = np.concatenate([similarities[q], row_C[better]])
            order = np.argsort(-merged, kind="stable")[:count]
            positions[q] = np.concatenate([positions[q], start + kept_C[better]])[order]
            similarities[q] = merged[order]
    shape = (len(queries_QD), min(count, len(gallery_GD)))
    return np.array(positions, np.int64).reshape(shape), np.array(similarities, np.float64).reshape(shape)


def possible(
    queries_QD: NDArray[np.float64], images_BD: NDArray, floors_Q: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Which images may be more similar to one of the queries than its floor.

    None of those that are is left out: single precision is off by less than what it is given here, the bound of a sum
    of D products (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, eq. 3.5) for the product and
    half of it for the length, rounded up.

    Args:
        queries_QD: Queries of length 1.
        images_BD: Features of any scale and type.
        floors_Q: Cosine similarities.

    Returns:
        Positions, ascending. All of them where an image is too large, too small or not finite in single precision.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single_BD = np.asarray(images_BD, np.float32)
        lengths_B = np.sqrt(np.einsum("bd,bd->b", single_BD, single_BD))
    if not ((lengths_B > SMALLEST) & (lengths_B < LARGEST)).all():
        return np.arange(len(images_BD))
    error = (2 * images_BD.shape[1] + 16) * np.finfo(np.float32).epsneg
    products_BQ = single_BD @ queries_QD.T.astype(np.float32)
    lowest_Q = (floors_Q - error).astype(np.float32)
    return np.flatnonzero((products_BQ >= lowest_Q * lengths_B[:, None]).any(axis=1))
