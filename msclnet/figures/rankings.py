"""Ranked galleries: of the protocol's queries, right and wrong framed (supplement, Fig. 3), and of a user's own query.

Q queries, G gallery images, K best of them, H x W pixels.
"""

from collections.abc import Sequence
from typing import Any

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
    """The k nearest valid gallery images of each query, nearest first; equal distances keep the gallery's order.

    Returns gallery positions int64 (Q, k) and their distances float64 (Q, k). A query with fewer than k valid images
    ends in positions -1 with distance NaN.
    """
    valid_QG = np.ones(distances_QG.shape, bool) if valid_QG is None else valid_QG
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
    distance: str,
) -> Figure:
    """One row per query: the query, then its K nearest gallery images.

    The right identity has a solid green frame and a tick, a wrong one a dashed red frame and a cross, so that colour
    is never the only cue. A distance of NaN marks a place without a gallery image. `direction` such as `infrared →
    visible`, `protocol` such as `SYSU-MM01 all-search, single-shot, trial 1`, `distance` such as `cosine distance`.
    """
    queries, k = distances_QK.shape
    width = 1.0
    aspect = query_images_QHW3.shape[1] / query_images_QHW3.shape[2]
    figure = new_figure(
        max(width * (k + 1) + 0.3, 6.0),
        queries * (0.87 * width * aspect + 0.5) + 1.3,
        title=f"The {k} nearest gallery images, {direction}\n{protocol}",
        caption=f"✓, solid green: the query's identity. ✗, dashed red: another identity. id: identity, "
        f"c: camera, d: {distance}. Equal distances: gallery order decides.",
    )
    grid = figure.subplots(queries, k + 1, squeeze=False)
    for query in range(queries):
        wanted = query_identities_Q[query]
        below = f"id {wanted} c{query_cameras_Q[query]}\n"
        _panel(grid[query, 0], query_images_QHW3[query], below=below, colour=NEUTRAL, width=3)
        for place in range(k):
            axes: Axes = grid[query, place + 1]
            if np.isnan(distances_QK[query, place]):
                axes.set(xticks=[], yticks=[], box_aspect=aspect)
                nothing_to_show(axes, "none\nleft")
                frame(axes, NEUTRAL, width=0.6, dashed=True)
                continue
            identity, camera = gallery_identities_QK[query, place], gallery_cameras_QK[query, place]
            right = identity == wanted
            _panel(
                axes,
                gallery_images_QKHW3[query, place],
                below=f"{'✓' if right else '✗'} id {identity} c{camera}\nd {distances_QK[query, place]:.3f}",
                colour=RIGHT if right else WRONG,
                text_colour=RIGHT if right else WRONG,
                width=3.5 if right else 2,
                dashed=not right,
            )
    for place, axes in enumerate(grid[0]):
        axes.set_title("query" if place == 0 else f"{place}", fontsize=SMALL_SIZE)
    return figure


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

    A frame's colour gives the image's stated modality. No image is marked right or wrong: the identities of a user's
    own images are not known.
    """
    count = len(similarities_K)
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
    # A file's name may hold dollar signs, which matplotlib reads as a formula.
    look: dict[str, Any] = {"text_colour": NEUTRAL, "text_size": SMALL_SIZE - 2, "parse_math": False}
    below = f"\n{_label(query_name)}"
    _panel(
        grid[0, 0],
        query_image_HW3,
        title="query",
        below=below,
        colour=COLOURS[query_modality],
        width=3.5,
        **look,
    )
    for place in range(count):
        _panel(
            grid[place // columns, place % columns + 1],
            gallery_images_KHW3[place],
            title=f"{place + 1}",
            below=f"{similarities_K[place]:.3f}\n{_label(gallery_names_K[place])}",
            colour=COLOURS[gallery_modality],
            width=1.5,
            **look,
        )
    return figure


def _panel(
    axes: Axes,
    image_HW3: np.ndarray,
    *,
    below: str,
    colour: str,
    width: float,
    title: str = "",
    dashed: bool = False,
    text_colour: str = "black",
    text_size: float = SMALL_SIZE - 1,
    parse_math: bool = True,
) -> None:
    """One framed image with a text below it."""
    axes.set_visible(True)
    show_image(axes, image_HW3)
    frame(axes, colour, width=width, dashed=dashed)
    axes.set_title(title, fontsize=SMALL_SIZE)
    axes.set_xlabel(below, fontsize=text_size, color=text_colour, labelpad=4, parse_math=parse_math)


def _label(name: str) -> str:
    """Folder and file on one line each."""
    return "\n".join(_short(part) for part in name.rpartition("/")[::2] if part)


def _short(name: str, longest: int = LONGEST_NAME) -> str:
    """The name, or its beginning and end where it is too long; the end often distinguishes files."""
    name = _drawable(name)
    if len(name) <= longest:
        return name
    end = (longest - 1) // 2
    return f"{name[: longest - 1 - end]}…{name[-end:]}"


def _drawable(text: str) -> str:
    """The text with `?` in place of characters that the figures' font lacks."""
    glyphs = get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap()
    return "".join(character if ord(character) in glyphs else "?" for character in text)
