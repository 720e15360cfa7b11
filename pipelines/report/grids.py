"""Tables of the grids, and pictures of what each loss and each weight is worth."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msclnet.figures.style import (
    INFRARED,
    NEUTRAL,
    RIGHT,
    SMALL_SIZE,
    VISIBLE,
    new_figure,
    nothing_to_show,
    styled,
)
from pipelines.report.results import MISSING, NOT_RUN, OURS, PLAIN, US, GridView, RowView

NONE = "-"
# An estimate, not a measurement: the start of GPU kernels, some hundred a step, limits a network as small as this.
GPU_STEPS_PER_SECOND = (20, 60)


def grid_table(view: GridView) -> pd.DataFrame:
    """Figures of each row over the seeds, next to the paper's where it has any; empty columns are left out."""
    found = (list(row.statistics.spreads) for row in view.rows if row.statistics.spreads)
    titles = next(found, ["Rank-1", "mAP"] if view.grid.score == "test" else ["score"])
    rows = []
    for row in view.rows:
        cells = {"Row": row.row.shown}
        for title, value in (
            ("Rank-1", row.row.paper and row.row.paper.rank1),
            ("mAP", row.row.paper and row.row.paper.mAP),
        ):
            cells[f"paper, SYSU-MM01 {title}"] = "" if value is None else f"{value:.2f}"
        rows.append({**cells, **_figures(view, row, titles), "Remarks": _remarks(row)})
    known = [row.statistics.seeds or row.statistics.diverged or row.same_as for row in view.rows]
    frame = pd.DataFrame(rows, index=[PLAIN if each else MISSING for each in known])
    paper = [column for column in frame if column.startswith("paper")]
    frame = frame.drop(columns=[column for column in (*paper, "Remarks") if not any(frame[column])])
    return frame.replace({column: {"": NONE} for column in paper if column in frame})


def _figures(view: GridView, row: RowView, titles: list[str]) -> dict[str, str]:
    """The number of seeds, each figure, and the gain."""
    own, gain = row.statistics, NONE
    if own.seeds:
        count, figures = str(len(own.seeds)), [str(own.spreads.get(title, NONE)) for title in titles]
        gain = str(own.differences.get(titles[0], NONE))
        if row.row.name == view.grid.baseline:
            gain = "baseline" if len(own.seeds) > 1 else "baseline (one seed)"
    elif own.diverged:
        count, figures = str(len(own.diverged)), ["diverged"] * len(titles)
    elif row.same_as:
        count, figures = "", [f"as {row.same_as.name}"] * len(titles)
    else:
        count, figures, gain = "", [NOT_RUN] * len(titles), NOT_RUN
    confidence = f"{100 * (1 - view.grid.alpha):g} %"
    cells = {
        "seeds": count,
        **dict(zip(titles, figures, strict=True)),
        f"gain in {titles[0]} [{confidence}]": gain,
    }
    dataset = view.rows[0].params.get("download.dataset", "")
    return {f"{US}, {dataset} {title}": cell for title, cell in cells.items()}


def _remarks(row: RowView) -> str:
    words = []
    if row.same_as:
        words.append(f"Identical by construction to {row.same_as.shown}.")
    if row.statistics.seeds and row.statistics.diverged:
        words.append(f"Diverged with seed {', '.join(map(str, row.statistics.diverged))}.")
    return " ".join([*words, row.row.note]).strip()


def has_gains(view: GridView) -> bool:
    """Whether any row can be compared with the baseline."""
    return any(row.statistics.differences for row in view.rows)


@styled()
def gains(view: GridView) -> Figure:
    """Gain over the baseline in Rank-1: the paper's in one panel, ours with its interval in the other."""
    figure = new_figure(10, 1.4 + 0.27 * len(view.rows), title="Gain over the baseline in Rank-1")
    left, right = figure.subplots(1, 2, sharey=True)
    base = next(row.row.paper for row in view.rows if row.row.name == view.grid.baseline)
    for height, row in enumerate(view.rows):
        if row.row.paper and base:
            left.plot(row.row.paper.rank1 - base.rank1, height, "o", color=INFRARED, markersize=6)
        difference = row.statistics.differences.get("Rank-1")
        if difference is None:
            _word(right, height, "baseline" if row.row.name == view.grid.baseline else _reason(row))
            continue
        colour = RIGHT if difference.clear else NEUTRAL
        if difference.low is not None and difference.high is not None:
            right.plot(
                [difference.low, difference.high], [height, height], color=colour, linewidth=2, alpha=0.6
            )
        right.plot(difference.mean, height, "o", color=colour, markersize=6)
    for axes, title in ((left, "paper, SYSU-MM01"), (right, "this project, synthetic data")):
        axes.axvline(0, color=NEUTRAL, linewidth=1)
        axes.set(title=title, xlabel="percentage points")
    left.set_yticks(range(len(view.rows)), [row.row.shown for row in view.rows], fontsize=SMALL_SIZE)
    left.invert_yaxis()
    return figure


def _reason(row: RowView) -> str:
    if row.same_as:
        return f"identical to {row.same_as.shown}"
    return "diverged" if row.statistics.diverged else NOT_RUN


def _word(axes: Axes, height: int, word: str) -> None:
    axes.annotate(word, (0, height), xytext=(6, 0), textcoords="offset points", va="center", color=NEUTRAL)


@styled()
def sensitivity(view: GridView) -> Figure:
    """Two rows of panels: ours, and the paper's in a lighter colour."""
    by_weight: dict[str, list[RowView]] = {}
    for row in view.rows:
        if row.row.point:
            by_weight.setdefault(row.row.point.parameter, []).append(row)
    figure = new_figure(11, 5.2, title="One weight at a time")
    panels = figure.subplots(2, len(by_weight), sharey="row", sharex="col", squeeze=False)
    figures = {row.row.name: row.statistics.spreads.get("score") for row in view.rows}
    base = figures.get(view.grid.baseline or "")
    for column, (weight, rows) in enumerate(by_weight.items()):
        places = np.arange(len(rows))
        ours, papers = panels[0, column], panels[1, column]
        # The point at the default value is the default itself, and not run twice.
        spreads = [figures.get(r.same_as.name if r.same_as else r.row.name) for r in rows]
        known = [(place, each) for place, each in zip(places, spreads, strict=True) if each is not None]
        if known:
            ours.errorbar(
                [place for place, _ in known],
                [each.mean for _, each in known],
                yerr=[each.std or 0.0 for _, each in known],
                color=VISIBLE,
                marker="o",
                markersize=4,
                capsize=2,
            )
        elif not base:
            nothing_to_show(ours, NOT_RUN)
        if base is not None:
            ours.axhline(base.mean, color=NEUTRAL, linewidth=1, linestyle="--")
        stated = [(p, r.row.paper.rank1) for p, r in zip(places, rows, strict=True) if r.row.paper]
        papers.plot(*zip(*stated, strict=True), color=INFRARED, alpha=0.55, marker="o", markersize=4)
        ours.set_title(weight)
        values = [f"{row.row.point.value:g}" for row in rows if row.row.point]
        papers.set_xticks(places, values, fontsize=SMALL_SIZE, rotation=45)
    panels[0, 0].set_ylabel("this project:\nvalidation score, percent")
    panels[1, 0].set_ylabel("paper, SYSU-MM01:\nRank-1, percent")
    return figure


def cost(views: Sequence[GridView]) -> pd.DataFrame:
    """Measured time per cell and grid, and an estimate for a GPU; empty where nothing was trained."""
    rows = [row for view in views for row in _costs(view)]
    return pd.DataFrame(rows, index=[OURS if row["Row"] == "all" else PLAIN for row in rows]).fillna("")


def _costs(view: GridView) -> list[dict[str, str]]:
    """One row per row of the grid with a training, then their sum."""
    rows: list[dict[str, str]] = []
    total, cells = 0.0, 0
    for row in view.rows:
        records = [record for record in view.of(row.row.name) if record["training"]["seconds"]]
        if not records:
            continue
        seconds = sum(record["training"]["seconds"] for record in records)
        steps = sum(record["training"]["steps"] for record in records)
        total, cells = total + seconds, cells + len(records)
        machines = {(record["machine"]["device"], record["machine"]["cores"]) for record in records}
        low, high = (steps / len(records) / speed for speed in reversed(GPU_STEPS_PER_SECOND))
        rows.append(
            {
                "Grid": view.grid.name,
                "Row": row.row.shown,
                "cells": str(len(records)),
                "steps": f"{steps / len(records):,.0f}",
                "training, s a cell": f"{seconds / len(records):,.0f}",
                "steps/s": f"{steps / seconds:.1f}",
                "one modern GPU, s a cell (estimate)": f"{low:,.0f} to {high:,.0f}",
                "Machine": "; ".join(f"{device}, {cores} cores" for device, cores in sorted(machines)),
            }
        )
    if rows:
        together = f"{total / 3600:.2f} h together"
        rows.append(
            {"Grid": view.grid.name, "Row": "all", "cells": str(cells), "training, s a cell": together}
        )
    return rows
