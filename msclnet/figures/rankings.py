"""Galleries ranked for a query: the retrieval and the search figure.

What a query finds: its nearest gallery images, right and wrong ones framed (supplement, Fig. 3).

Legend: Q queries, G gallery images, K best of them, H x W pixels.

What a user's own query finds: the query, then the most similar gallery images with their similarity.

Legend: K gallery images, H x W pixels.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from msclnet.figures.style import (
    INFRARED,
    NEUTRAL,
    RIGHT,
    SMALL_SIZE,
    VISIBLE,
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


COLUMNS = 10
LONGEST_NAME = 15  # characters that fit below an image
LONGEST_MODEL = 60
COLOURS = {"visible": VISIBLE, "infrared": INFRARED}


@styled()
def search_figure(
    query_image_HW3: np.ndarray,
    gallery_images_KHW3: Sequence[np.ndarray],
    *,
    query_name: str,
    gallery_names_K: Sequence[str],
    similarities_K: Sequence[float],
    query_modality: str,
    gallery_modality: str,
    gallery_size: int,
    model: str,
) -> Figure:
    """The query at the left, the K best gallery images in rows of `COLUMNS`, each with rank and similarity.

    A frame's colour is the image's stated modality. Nothing says right or wrong: a user's own images have no
    known identity.

    Args:
        query_image_HW3: uint8 (H, W, 3), as the network saw it.
        gallery_images_KHW3: The same of the gallery images, best first.
        query_name: Its file.
        gallery_names_K: The gallery's files, with `/` before the name where they lie in folders; long names are
            shortened in the middle.
        similarities_K: Cosine similarities, from -1 to 1.
        query_modality, gallery_modality: `visible` or `infrared`.
        gallery_size: Number of images that were ranked.
        model: What ranked them.

    Raises:
        ValueError: If there is no gallery image, or lengths differ.
    """
    count = len(similarities_K)
    if not count or len(gallery_images_KHW3) != count or len(gallery_names_K) != count:
        raise ValueError(
            f"a search figure needs at least one image, name and similarity each, not "
            f"{len(gallery_images_KHW3)}, {len(gallery_names_K)} and {count}"
        )
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    width = 1.15
    lines = 1 + max(_label(name).count("\n") + 1 for name in (query_name, *gallery_names_K))
    height = 0.87 * width * query_image_HW3.shape[0] / query_image_HW3.shape[1] + 0.35 + 0.13 * lines
    caption = (
        "Above: rank. Below: cosine similarity and file. Images as the network sees them. Blue frame: visible, orange: "
        f"infrared, as stated by the user; who is shown is not known. Model: {_short(model, LONGEST_MODEL)}."
    )
    figure_width = max(width * (columns + 1) + 0.3, 7.0)
    figure = new_figure(
        figure_width,
        rows * height + 0.75 + 0.16 * (1 + len(caption) // int(14 * figure_width)),
        title=f"The {count} most similar of {gallery_size} gallery images, {query_modality} → {gallery_modality}",
        caption=caption,
    )
    grid = figure.subplots(rows, columns + 1, squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    _show(
        grid[0, 0], query_image_HW3, above="query", below=f"\n{_label(query_name)}", modality=query_modality
    )
    frame(grid[0, 0], COLOURS[query_modality], width=3.5)
    for place in range(count):
        _show(
            grid[place // columns, place % columns + 1],
            gallery_images_KHW3[place],
            above=f"{place + 1}",
            below=f"{similarities_K[place]:.3f}\n{_label(gallery_names_K[place])}",
            modality=gallery_modality,
        )
    return figure


def _show(axes: Axes, image_HW3: np.ndarray, *, above: str, below: str, modality: str) -> None:
    axes.set_visible(True)
    show_image(axes, image_HW3)
    frame(axes, COLOURS[modality], width=1.5)
    axes.set_title(above, fontsize=SMALL_SIZE)
    # A file's name may hold dollar signs, which would be read as a formula.
    axes.set_xlabel(below, fontsize=SMALL_SIZE - 2, color=NEUTRAL, labelpad=4, parse_math=False)


def _label(name: str) -> str:
    """Folder and file in a line each."""
    return "\n".join(_short(part) for part in name.rpartition("/")[::2] if part)


def _short(name: str, longest: int = LONGEST_NAME) -> str:
    """The name, or its beginning and end where it is too long; the end often tells files apart."""
    name = _drawable(name)
    if len(name) <= longest:
        return name
    end = (longest - 1) // 2
    return f"{name[: longest - 1 - end]}…{name[-end:]}"


def _drawable(text: str) -> str:
    """The text with `?` for characters that the figures' font lacks."""
    glyphs = get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap()
    return "".join(character if ord(character) in glyphs else "?" for character in text)
