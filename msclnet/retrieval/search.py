"""Search without labels: each query's whole gallery in order of similarity.

Axes: Q queries, G gallery images, D feature width.
"""

import numpy as np
from numpy.typing import NDArray

from msclnet.retrieval.distance import cosine_distances


def rank_gallery(queries_QD: NDArray, gallery_GD: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Order the gallery for each query, the most similar image first.

    Args:
        queries_QD: Query features; their scale is of no account.
        gallery_GD: Gallery features of the same width.

    Returns:
        Gallery positions int64 (Q, G) and, in that order, the cosine similarities float32 (Q, G), from -1 to 1.
        Among equally similar images the gallery's order decides.

    Raises:
        ValueError: The widths differ, a feature is all zeros, or it holds NaN or infinity.
    """
    similarities_QG = np.clip(1 - cosine_distances(queries_QD, gallery_GD), -1, 1)
    order_QG = np.argsort(-similarities_QG, axis=1, kind="stable")
    return order_QG, np.take_along_axis(similarities_QG, order_QG, axis=1)
