"""A section's rows as horizontal bars."""

from matplotlib.axes import Axes

from benchmarks.core.result import Row, Section
from benchmarks.report.markdown import number
from msclnet.figures.style import INFRARED, NEUTRAL, SMALL_SIZE, VISIBLE, nothing_to_show

SECONDS = {"s": 1.0, "ms": 1e-3}


def draw_times(axes: Axes, section: Section | None, *, title: str, reference: bool = True) -> None:
    """How many times as fast as the reference each row is; its share of the limit is written beside it.

    Args:
        axes: Where.
        section: None where it was not run.
        title: Of the panel.
        reference: Whether the reference is drawn as well.
    """
    rows = [row for row in section.rows if row.times is not None] if section else []
    rows = [row for row in rows if reference or row.times != 1]
    labels = [
        f"{number(row.times or 0)} x" + (f", {100 * row.share:.0f} % of the limit" if row.share else "")
        for row in rows
    ]
    if _panel(axes, rows, [row.times or 0.0 for row in rows], labels, title=title):
        axes.set_xlabel("times the reference")


def draw_rates(axes: Axes, section: Section | None, *, title: str) -> None:
    """Rates on a logarithmic axis; arguments as for `draw_times`."""
    rows = [row for row in section.rows if row.value is not None] if section else []
    values = [row.value or 0.0 for row in rows]
    if _panel(axes, rows, values, [number(value) for value in values], title=title):
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 3, max(values) * 6)
        axes.set_xlabel(rows[0].unit)


def draw_seconds(axes: Axes, section: Section | None, *, title: str) -> None:
    """Seconds; arguments as for `draw_times`."""
    rows = [row for row in section.rows if row.value is not None] if section else []
    values = [(row.value or 0.0) * SECONDS[row.unit] for row in rows]
    if _panel(axes, rows, values, [f"{value:.2f}" for value in values], title=title):
        axes.set_xlabel("seconds")


def _panel(axes: Axes, rows: list[Row], values: list[float], labels: list[str], *, title: str) -> bool:
    """Bars, or a word where there are none; whether there are."""
    axes.set_title(title, loc="left")
    if not rows:
        nothing_to_show(axes, "not run")
        axes.set(xticks=[], yticks=[])
        return False
    _bars(axes, rows, values, labels)
    return True


def _bars(axes: Axes, rows: list[Row], values: list[float], labels: list[str]) -> None:
    colours = [NEUTRAL if row.times == 1 else INFRARED if "bf16" in row.name else VISIBLE for row in rows]
    bars = axes.barh(range(len(rows)), values, color=colours, height=0.7)
    axes.bar_label(bars, labels, padding=3, fontsize=SMALL_SIZE)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlim(0, max(values) * 1.6)
