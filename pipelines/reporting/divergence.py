"""Which trainings diverged: those that were stopped, and those that ran off or collapsed to their end."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from msclnet.visualization.style import (
    INFRARED,
    NEUTRAL,
    SMALL_SIZE,
    VISIBLE,
    new_figure,
    nothing_to_show,
    styled,
)
from pipelines.reporting.document import Block, Column, Paragraph, Picture, Row, Table
from pipelines.reporting.grid_view import GridView, Record
from pipelines.reporting.pictures import picture

MOST_ACROSS = 3
FAR = 10  # times the norm of the baseline's feature, or a part of it
UNBOUNDED = -1.0  # the lowest of the bounded terms is minus Jensen-Shannon, at least - ln 2
RUNAWAY = 50  # times the smallest value

Values = npt.NDArray[np.float64]


def what_diverged(views: Sequence[GridView]) -> list[Block]:
    """A table and the curves of all trainings that diverged."""
    by_row: dict[tuple[str, str], list[tuple[Record, str]]] = {}
    for view in views:
        for record in view.records:
            if why := why_diverged(record, view.of(view.grid.baseline)):
                by_row.setdefault((record["grid"], record["row"]), []).append((record, why))
    if not by_row:
        run = any(view.run for view in views)
        return [
            Paragraph("No training of these grids diverged.") if run else Paragraph("Not run.", warning=True)
        ]
    rows = []
    for (grid, row), own in by_row.items():
        seeds = ", ".join(str(record["seed"]) for record, _ in own)
        rows.append(Row([f"{grid}, {row}", seeds, own[0][1]]))
    columns = [Column("Row"), Column("seeds", number=True), Column("The first of these trainings")]
    caption = (
        "A training that left the range in which it can recover was stopped. Others reached their end with a feature "
        f"{FAR} times as large or as small as the grid's baseline has, or with a loss term below {UNBOUNDED:g}, which "
        "no bounded form has: they are named as well."
    )
    return [
        Table(columns, rows, caption),
        curves_of_divergence([own[0][0] for own in by_row.values()]),
    ]


def why_diverged(record: Record, baseline: Sequence[Record]) -> str:
    """In which way a training left the range of a healthy one; empty where it did not.

    Args:
        record: of the training.
        baseline: records of the grid's baseline row.
    """
    if "diverged" in record:
        return record["diverged"].partition(". ")[0]
    last = {
        name: values[-1] for name, values in record["history"].items() if values and values[-1] is not None
    }
    found = [
        f"{name} = {value:.3g}"
        for name, value in last.items()
        if name.startswith("loss_") and value < UNBOUNDED
    ]
    norm = last.get("feature_norm")
    ends = [
        (each["history"].get("feature_norm") or [None])[-1] for each in baseline if "diverged" not in each
    ]
    usual = [end for end in ends if end is not None]
    if norm is not None and usual and not 1 / FAR <= norm / np.mean(usual) <= FAR:
        found.append(f"mean feature norm = {norm:.3g}, of the baseline {np.mean(usual):.3g}")
    return f"reached its end with {', '.join(found)}" if found else ""


@styled()
def curves_of_divergence(records: list[Record]) -> Picture:
    """Total loss and feature norm of each diverged training: its whole epochs, then its last steps one by one."""
    across = min(MOST_ACROSS, len(records))
    down = -(-len(records) // across)
    figure = new_figure(max(3.6 * across, 6.0), 2.6 * down + 0.9, title="Trainings that diverged")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, record in zip(panels, records, strict=False):
        axes.set_title(f"{record['row']}, seed {record['seed']}", fontsize=SMALL_SIZE, loc="left")
        epochs, steps = record["history"], record.get("last_steps", {})
        if not epochs.get("epoch") and not steps.get("step"):
            nothing_to_show(axes, "ended in its first epoch")
            axes.set(xticks=[], yticks=[])
            continue
        length = record["params"].get("train.steps_per_epoch") or 0
        if steps.get("step") and not length:  # it followed from the data, and the record does not say it
            epochs = {}
        twin = axes.twinx()
        for target, name, colour in ((axes, "total", VISIBLE), (twin, "feature_norm", INFRARED)):
            whole = _column(epochs, name, axis="epoch")
            last = _column(steps, name, axis="step")
            target.plot(*whole, color=colour, marker="o", markersize=3, linestyle="none" if steps else "-")
            target.plot(last[0] / (length or 1), last[1], color=colour, linewidth=1)
            target.set_ylabel(name.replace("_", " "), color=colour, fontsize=SMALL_SIZE)
            target.set_yscale(_scale(np.concatenate([whole[1], last[1]])))
        twin.grid(False)
        axes.set_xlabel("epoch" if epochs or length else "step", fontsize=SMALL_SIZE, color=NEUTRAL)
    for axes in panels[len(records) :]:
        axes.set_visible(False)
    return picture(
        "diverged",
        figure,
        description="Total loss and mean feature norm of trainings that diverged, by epoch",
        caption="Blue: total loss; orange: mean norm of the pooled feature. Dots: means over whole epochs; lines: the "
        "last steps before the training was stopped, where their record has them.",
    )


def _column(history: dict[str, list[float | None]], name: str, *, axis: str) -> tuple[Values, Values]:
    places = history.get(axis, [])
    values = [np.nan if v is None else v for v in history.get(name, [None] * len(places))]
    return np.asarray(places, float), np.asarray(values, float)


def _scale(values: Values) -> str:
    """Logarithmic where a runaway would flatten all that came before it."""
    finite = values[np.isfinite(values)]
    if not len(finite) or np.abs(finite).max() < RUNAWAY * max(np.abs(finite).min(), 1e-6):
        return "linear"
    return "log" if finite.min() > 0 else "symlog"
