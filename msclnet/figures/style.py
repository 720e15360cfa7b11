"""One look for every figure, and the one way a figure becomes a file.

Figures are made with matplotlib's object interface, never with pyplot: nothing is kept in global state and no
display is needed.
"""

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

# Okabe and Ito's palette: its members stay apart under the common forms of colour blindness.
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
    "font.sans-serif": [
        "DejaVu Sans"
    ],  # comes with matplotlib, so the pixels do not depend on installed fonts
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
    """The project's settings on top of matplotlib's defaults, whatever the user's own matplotlibrc says.

    Usable as `with styled():` and as a decorator `@styled()`.
    """
    with matplotlib.style.context(["default", _SETTINGS]):
        yield


def new_figure(width: float, height: float, *, title: str, caption: str = "") -> Figure:
    """An empty figure with its title at the upper left and a wrapped caption at the lower left.

    Args:
        width: Inches.
        height: Inches, title and caption included.
        title: One line, or several with line breaks of their own.
        caption: Shown small below the panels; wrapped to the width.
    """
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left")
    if caption:
        characters = int(width * 72 / (0.56 * SMALL_SIZE))
        figure.supxlabel(textwrap.fill(caption, characters), x=0.01, ha="left", color=NEUTRAL)
    return figure


def show_image(axes: Axes, image_HW3: np.ndarray) -> None:
    """Draw one image without ticks, inside a thin line that also bounds black or white margins.

    Args:
        axes: Where to draw.
        image_HW3: uint8 (H, W, 3), RGB.

    Raises:
        ValueError: If the array is no uint8 RGB image.
    """
    image_HW3 = np.asarray(image_HW3)
    if image_HW3.dtype != np.uint8 or image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or image_HW3.size == 0:
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
    """Say in an empty panel why it is empty; an unexplained white square looks like a defect."""
    axes.text(
        0.5,
        0.5,
        reason,
        transform=axes.transAxes,
        ha="center",
        va="center",
        color=NEUTRAL,
        fontsize=SMALL_SIZE,
    )
    axes.grid(False)


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG; equal figures give equal bytes.

    Neither time nor software version is stored. The layout is frozen by the first save: solving it again
    would start from the previous solution and could move things by a fraction of a pixel.

    Args:
        figure: Any figure of this package.
        path: The file; its folder is made when missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with styled():
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})
