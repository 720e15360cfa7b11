"""Cost by size on log axes, with the fitted exponent."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from benchmarks.core.growth import Curve
from msclnet.figures.style import (
    INFRARED,
    NEUTRAL,
    OTHER_IDENTITY,
    RIGHT,
    VISIBLE,
    nothing_to_show,
)

COLOURS = (VISIBLE, INFRARED, RIGHT, OTHER_IDENTITY)


def draw_growth(axes: Axes, curves: Sequence[Curve], *, axis: str) -> None:
    """All curves over one axis.

    Args:
        axes: Where.
        curves: Of any axis; others are left out.
        axis: What grows.
    """
    axes.set_title(f"Cost by {axis}", loc="left")
    shown = [curve for curve in curves if curve.axis == axis]
    if not shown:
        nothing_to_show(axes, "not run")
        axes.set(xticks=[], yticks=[])
        return
    for curve, colour in zip(shown, COLOURS, strict=False):
        milliseconds = [1e3 * seconds for seconds in curve.seconds]
        label = f"{curve.name}: {curve.exponent:.2f}"
        axes.plot(curve.sizes, milliseconds, "o-", color=colour, markersize=4, label=label)
    _slope_of_one(axes, shown)
    axes.set(xscale="log", yscale="log", xlabel=axis, ylabel="milliseconds")
    axes.legend(title="fitted exponent", alignment="left", loc="upper left", bbox_to_anchor=(0.0, -0.18))


def _slope_of_one(axes: Axes, curves: Sequence[Curve]) -> None:
    """A thin line for comparison, through the end of the dearest curve."""
    dearest = max(curves, key=lambda curve: curve.seconds[-1])
    size, milliseconds = dearest.sizes[-1], 1e3 * dearest.seconds[-1]
    first = dearest.sizes[0]
    axes.plot(
        [first, size],
        [1.6 * milliseconds * first / size, 1.6 * milliseconds],
        color=NEUTRAL,
        linewidth=0.9,
        linestyle=(0, (4, 2)),
        label="linear, for comparison",
    )
