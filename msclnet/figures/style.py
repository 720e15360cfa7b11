"""The style of all figures, and how a figure is saved.

Figures use matplotlib's object interface, never pyplot: there is no global state, and no display is needed.
"""

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

DPI = 120

# Okabe and Ito's palette: its colours differ under the common forms of colour blindness.
VISIBLE = "#0072B2"
INFRARED = "#D55E00"
RIGHT = "#009E73"
WRONG = "#D62728"
SAME_IDENTITY = "#009E73"
OTHER_IDENTITY = "#AA4499"
NEUTRAL = "#555555"

TITLE_SIZE = 13
TEXT_SIZE = 10
SMALL_SIZE = 9

_SETTINGS = {
    "font.family": "sans-serif",
    # Comes with matplotlib, so that the pixels do not depend on installed fonts.
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": TEXT_SIZE,
    "figure.titlesize": TITLE_SIZE,
    "figure.titleweight": "bold",
    "figure.labelsize": SMALL_SIZE,
    "axes.titlesize": TEXT_SIZE,
    "axes.labelsize": TEXT_SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "xtick.labelsize": SMALL_SIZE,
    "ytick.labelsize": SMALL_SIZE,
    "legend.fontsize": SMALL_SIZE,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.facecolor": "white",
    "savefig.bbox": None,
}


@contextmanager
def styled() -> Iterator[None]:
    """The project's settings on top of matplotlib's defaults, as a context or a decorator."""
    with matplotlib.style.context(["default", _SETTINGS]):
        yield


def new_figure(width: float, height: float, *, title: str, caption: str = "") -> Figure:
    """An empty figure of this size in inches, with its title at the upper left and a caption at the lower left."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left")
    if caption:
        characters = int(width * 72 / (0.56 * SMALL_SIZE))
        figure.supxlabel(textwrap.fill(caption, characters), x=0.01, ha="left", color=NEUTRAL)
    return figure


def show_image(axes: Axes, image_HW3: np.ndarray) -> None:
    """Draw one RGB image, uint8 (H, W, 3), without ticks; a thin line bounds black or white margins.

    ValueError for other types, which matplotlib scales without a warning.
    """
    if image_HW3.dtype != np.uint8 or image_HW3.ndim != 3 or image_HW3.shape[2] != 3:
        raise ValueError(f"an image is uint8 (H, W, 3), not {image_HW3.dtype} {image_HW3.shape}")
    axes.imshow(image_HW3, interpolation="antialiased")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    frame(axes, NEUTRAL, width=0.6)


def frame(axes: Axes, colour: str, *, width: float, dashed: bool = False) -> None:
    """Draw all four sides of a panel in one colour."""
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor=colour, linewidth=width, linestyle=(0, (3, 1.5)) if dashed else "-")


def nothing_to_show(axes: Axes, reason: str) -> None:
    """Write in an empty panel why it is empty: an unexplained white square looks like a defect."""
    centre = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, reason, color=NEUTRAL, fontsize=SMALL_SIZE, **centre)
    axes.grid(False)


def png_bytes(figure: Figure) -> bytes:
    """A figure as a PNG file; equal figures give equal bytes.

    Neither time nor software version is stored. The first call freezes the layout: a second solution would start from
    the first one and could move the text by a fraction of a pixel.
    """
    stream = io.BytesIO()
    with styled():
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG (see `png_bytes`); the folder is made where it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(figure))
