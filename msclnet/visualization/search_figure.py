"""What a user's own query finds: the query, then the most similar gallery images with their similarity.

Legend: K gallery images, H x W pixels.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from msclnet.visualization.style import (
    INFRARED,
    NEUTRAL,
    SMALL_SIZE,
    VISIBLE,
    frame,
    new_figure,
    show_image,
    styled,
)

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
