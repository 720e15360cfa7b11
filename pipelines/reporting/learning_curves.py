"""Section: learning curves of every loss term."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np

from msclnet.visualization.style import NEUTRAL, SMALL_SIZE, new_figure, styled
from pipelines.reporting.document import Block, Paragraph, Picture, Section
from pipelines.reporting.grid_view import GridView, Record
from pipelines.reporting.pictures import picture

TITLE = "Learning curves"
MOST_ROWS = 8
MOST_ACROSS = 4
# Of a grid with many rows, those that tell most.
_FIRST = ("B", "MS", "CA", "MC", "MS-CA", "MS-MC", "whole", "default")


def learning_curves(views: Sequence[GridView]) -> Section:
    """Every loss term and the validation score of each grid that has a history."""
    blocks: list[Block] = [
        Paragraph(
            "Losses are unweighted, and each is shown for the rows that have it. L_div is negative by its definition."
        )
    ]
    pictures = [curves(view) for view in views if any(record["history"] for record in view.records)]
    return Section(TITLE, blocks + (list(pictures) or [Paragraph("Not run.", warning=True)]))


@styled()
def curves(view: GridView) -> Picture:
    """One panel a term, one line a row: the mean over its seeds."""
    rows = [row.row for row in view.rows if any(r["history"] for r in view.of(row.row.name))]
    if len(rows) > MOST_ROWS:
        rows = sorted(rows, key=lambda row: row.name not in _FIRST)[:MOST_ROWS]
    means = {row.name: mean_history(view.of(row.name)) for row in rows}
    columns = list(dict.fromkeys(name for history in means.values() for name in history))
    terms = ["total", *(name for name in columns if name.startswith("loss_")), "val_score"]
    terms = [name for name in terms if name in columns]
    across = min(MOST_ACROSS, len(terms))
    down = math.ceil(len(terms) / across)
    figure = new_figure(
        2.8 * across, 2.1 * down + 1.2, title=f"{view.grid.title}: loss terms and validation score"
    )
    panels = figure.subplots(down, across, squeeze=False).ravel()
    # Without its grey, which is B's here.
    colours = [matplotlib.colormaps["tab10"](place) for place in (0, 1, 2, 3, 4, 5, 6, 8, 9)]
    for axes, term in zip(panels, terms, strict=False):
        axes.set_title(term, fontsize=SMALL_SIZE, fontweight="bold", loc="left")
        for (name, history), colour in zip(means.items(), colours, strict=False):
            if term not in history:
                continue
            values = history[term]
            known = np.isfinite(values)
            colour = NEUTRAL if name == "B" else colour
            axes.plot(history["epoch"][known], values[known], color=colour, label=name, linewidth=1.4)
        axes.set_xlabel("epoch", fontsize=SMALL_SIZE)
    for axes in panels[len(terms) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    left_out = sum(1 for row in view.rows if view.of(row.row.name)) - len(rows)
    more = f" {left_out} further rows are in their records." if left_out > 0 else ""
    return picture(
        f"curves-{view.grid.name}",
        figure,
        description=f"Loss terms and validation score by epoch, rows of the grid {view.grid.name}",
        caption=f"`experiments/{view.grid.name}.yaml`: means over the seeds, by epoch.{more}",
    )


def mean_history(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Column -> mean over records of equal length, NaN where none has a figure; (epochs,)."""
    histories = [record["history"] for record in records if record["history"] and "diverged" not in record]
    if not histories:
        return {}
    epochs = min(len(history["epoch"]) for history in histories)
    found = {}
    for name in histories[0]:
        stacked = np.array(
            [
                [math.nan if v is None else v for v in history[name][:epochs]]
                for history in histories
                if name in history
            ]
        )
        counts = np.isfinite(stacked).sum(axis=0)
        sums = np.nansum(stacked, axis=0)
        found[name] = np.divide(sums, counts, out=np.full(epochs, math.nan), where=counts > 0)
    return found
