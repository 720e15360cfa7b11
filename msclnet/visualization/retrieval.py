"""What a query finds: its nearest gallery images, right and wrong ones framed (supplement, Fig. 3).

Legend: Q queries, G gallery images, K best of them, H x W pixels.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msclnet.visualization.style import (
    NEUTRAL,
    RIGHT,
    SMALL_SIZE,
    WRONG,
    frame,
    new_figure,
    nothing_to_show,
    show_image,
    styled,
)

MISSING = -1


def top_k(
    distances_QG: np.ndarray, valid_QG: np.ndarray | None = None, *, k: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest valid gallery images of each query, nearest first; among equals, gallery order decides.

    Args:
        distances_QG: (Q, G), smaller is nearer.
        valid_QG: bool (Q, G); False where the protocol keeps a gallery image from a query. None: all are
            valid.
        k: How many, >= 1.

    Returns:
        Gallery positions int64 (Q, k) and their distances float64 (Q, k). A query with fewer than k valid
        images ends in positions -1 with distance NaN.

    Raises:
        ValueError: If k < 1, the shapes differ or a valid distance is NaN.
    """
    distances_QG = np.asarray(distances_QG)
    valid_QG = np.ones(distances_QG.shape, bool) if valid_QG is None else np.asarray(valid_QG, bool)
    if k < 1:
        raise ValueError(f"k is at least 1, not {k}")
    if distances_QG.ndim != 2 or distances_QG.shape != valid_QG.shape:
        raise ValueError(f"distances {distances_QG.shape} and mask {valid_QG.shape} must both be (Q, G)")
    if np.isnan(distances_QG[valid_QG]).any():
        raise ValueError("a valid distance is NaN")

    order_QK = np.full((len(distances_QG), k), MISSING, np.int64)
    nearest_QK = np.full((len(distances_QG), k), np.nan)
    for query, (distances_G, valid_G) in enumerate(zip(distances_QG, valid_QG, strict=True)):
        candidates = np.flatnonzero(valid_G)
        best = candidates[np.argsort(distances_G[candidates], kind="stable")[:k]]
        order_QK[query, : len(best)] = best
        nearest_QK[query, : len(best)] = distances_G[best]
    return order_QK, nearest_QK


@styled()
def retrieval_figure(
    query_images_QHW3: np.ndarray,
    gallery_images_QKHW3: np.ndarray,
    *,
    query_identities_Q: np.ndarray,
    query_cameras_Q: np.ndarray,
    gallery_identities_QK: np.ndarray,
    gallery_cameras_QK: np.ndarray,
    distances_QK: np.ndarray,
    direction: str,
    protocol: str,
    distance: str = "distance",
) -> Figure:
    """One row per query: the query, then its K nearest gallery images.

    The right identity has a solid green frame and a tick, a wrong one a dashed red frame and a cross, so
    colour is never the only cue.

    Args:
        query_images_QHW3: uint8 (Q, H, W, 3).
        gallery_images_QKHW3: uint8 (Q, K, H, W, 3), nearest first.
        query_identities_Q: (Q,).
        query_cameras_Q: (Q,).
        gallery_identities_QK: (Q, K).
        gallery_cameras_QK: (Q, K).
        distances_QK: (Q, K); NaN marks a place for which no gallery image was left, its other entries are
            ignored.
        direction: Who queries whom, such as `infrared → visible`.
        protocol: Such as `SYSU-MM01 all-search, single-shot, trial 1`.
        distance: What the distances are, such as `cosine distance`.

    Raises:
        ValueError: If there is no query, no gallery column, or shapes differ.
    """
    distances_QK = np.asarray(distances_QK)
    if distances_QK.ndim != 2 or 0 in distances_QK.shape:
        raise ValueError(
            f"a retrieval figure needs distances (Q, K) of at least one each, not {distances_QK.shape}"
        )
    queries, k = distances_QK.shape
    per_query = (query_images_QHW3, query_identities_Q, query_cameras_Q)
    per_cell = (gallery_images_QKHW3, gallery_identities_QK, gallery_cameras_QK)
    if any(len(each) != queries for each in per_query) or any(
        np.shape(each)[:2] != (queries, k) for each in per_cell
    ):
        raise ValueError(f"images, identities and cameras must be given for {queries} queries x {k} places")

    width = 1.0
    image_aspect = query_images_QHW3[0].shape[0] / query_images_QHW3[0].shape[1]
    height = 0.87 * width * image_aspect + 0.5
    figure = new_figure(
        max(width * (k + 1) + 0.3, 6.0),
        queries * height + 1.3,
        title=f"The {k} nearest gallery images, {direction}\n{protocol}",
        caption=f"✓, solid green: the query's identity. ✗, dashed red: another identity. id: identity, "
        f"c: camera, d: {distance}. Equal distances: gallery order decides.",
    )
    grid = figure.subplots(queries, k + 1, squeeze=False)
    for query in range(queries):
        wanted = query_identities_Q[query]
        show_image(grid[query, 0], query_images_QHW3[query])
        frame(grid[query, 0], NEUTRAL, width=3)
        _caption(grid[query, 0], f"id {wanted} c{query_cameras_Q[query]}\n")
        for place in range(k):
            axes: Axes = grid[query, place + 1]
            if np.isnan(distances_QK[query, place]):
                axes.set(xticks=[], yticks=[], box_aspect=image_aspect)
                nothing_to_show(axes, "none\nleft")
                frame(axes, NEUTRAL, width=0.6, dashed=True)
                continue
            right = gallery_identities_QK[query, place] == wanted
            show_image(axes, gallery_images_QKHW3[query, place])
            frame(axes, RIGHT if right else WRONG, width=3.5 if right else 2, dashed=not right)
            who = f"{'✓' if right else '✗'} id {gallery_identities_QK[query, place]}"
            _caption(
                axes,
                f"{who} c{gallery_cameras_QK[query, place]}\nd {distances_QK[query, place]:.3f}",
                colour=RIGHT if right else WRONG,
            )
    for place, axes in enumerate(grid[0]):
        axes.set_title("query" if place == 0 else f"{place}", fontsize=SMALL_SIZE)
    return figure


def _caption(axes: Axes, text: str, *, colour: str = "black") -> None:
    axes.set_xlabel(text, fontsize=SMALL_SIZE - 1, color=colour, labelpad=4)
