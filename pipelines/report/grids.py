"""Sections: the grids as tables, what each loss is worth, sensitivity, and cost."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

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
from pipelines.experiments.grid import grid_names
from pipelines.experiments.results import RESULTS, records_file
from pipelines.report.document import (
    MISSING,
    OURS,
    PLAIN,
    Block,
    Heading,
    Items,
    Paragraph,
    Picture,
    Section,
    Table,
    picture,
)
from pipelines.report.grid_figures import figure5, learning_curves, rank1, scored, what_diverged
from pipelines.report.published import NOT_RUN
from pipelines.report.results import GridView, RowView, budget, read_view

NONE = "-"
MEANING = (
    "Ours: mean ± sample deviation over the seeds; gain over the baseline: mean of the differences seed by seed (same "
    "seed, same identities) with the interval of the paired t-test."
)
OWN_SECTION = ("ablation", "ablation-screening", "sensitivity")


def grid_sections(root: Path) -> list[Section]:
    """All sections over grids; empty in a project without experiments/.

    Raises:
        UserError: A grid's file or a record is damaged.
    """
    views = {name: read_view(root, name) for name in grid_names(root)}
    if not set(OWN_SECTION) <= set(views):
        return []
    others = [view for name, view in views.items() if name not in OWN_SECTION]
    sections = [
        ablation(views["ablation"], views["ablation-screening"]),
        figure5(root, list(views.values())),
        sensitivity(views["sensitivity"]),
        readings(others),
        learning_curves([view for name, view in views.items() if name not in ("sensitivity", "readings")]),
        cost(list(views.values())),
    ]
    unknown = sorted(path.stem for path in (root / RESULTS).glob("*.jsonl") if path.stem not in views)
    if unknown:
        texts = [f"`{records_file(name)}`: no grid of this name in experiments/" for name in unknown]
        sections.append(Section("Records that are not shown", [Items(texts)]))
    return sections


def grid_table(view: GridView, caption: str) -> Table:
    """The table of a grid: figures over the seeds, next to the paper's where it has any; empty columns are left out."""
    titles = _titles(view)
    rows = view.rows
    columns = {("", "Row"): [row.row.shown for row in rows]}
    for title, field in (("Rank-1", "rank1"), ("mAP", "mAP")):
        values = [getattr(row.row.paper, field, None) for row in rows]
        if any(value is not None for value in values):
            shown = [NONE if value is None else f"{value:.2f}" for value in values]
            columns["paper, SYSU-MM01", title] = shown
    ours = f"this project, {rows[0].params.get('download.dataset', '')}"
    gain = f"gain in {titles[0]} [{100 * (1 - view.grid.alpha):g} %]"
    figures = [_figures(row, titles, baseline=view.grid.baseline) for row in rows]
    for title, cells in zip(("seeds", *titles, gain), zip(*figures, strict=True), strict=True):
        columns[ours, title] = list(cells)
    remarks = [_remarks(row) for row in rows]
    if any(remarks):
        columns["", "Remarks"] = remarks
    known = [row.statistics.seeds or row.statistics.diverged or row.same_as for row in rows]
    frame = pd.DataFrame(columns, index=[PLAIN if each else MISSING for each in known])
    return Table(frame, caption, words=("Row", "Remarks"))


def _titles(view: GridView) -> list[str]:
    found = next((list(row.statistics.spreads) for row in view.rows if row.statistics.spreads), None)
    return found or (["Rank-1", "mAP"] if view.grid.score == "test" else ["score"])


def _figures(row: RowView, titles: list[str], *, baseline: str | None) -> list[str]:
    """The number of seeds, each figure, and the gain."""
    own = row.statistics
    if own.seeds:
        difference = own.differences.get(titles[0])
        gain = str(difference) if difference else NONE
        if row.row.name == baseline:
            gain = "baseline" if len(own.seeds) > 1 else "baseline (one seed)"
        return [str(len(own.seeds)), *(str(own.spreads.get(title, NONE)) for title in titles), gain]
    if own.diverged:
        return [str(len(own.diverged)), *["diverged"] * len(titles), NONE]
    if row.same_as:
        return ["", *[f"as {row.same_as.name}"] * len(titles), NONE]
    return ["", *[NOT_RUN] * (len(titles) + 1)]


def _remarks(row: RowView) -> str:
    words = []
    if row.same_as:
        words.append(f"Identical by construction to {row.same_as.shown}.")
    if row.statistics.seeds and row.statistics.diverged:
        words.append(f"Diverged with seed {', '.join(map(str, row.statistics.diverged))}.")
    return " ".join([*words, row.row.note]).strip()


def ablation(view: GridView, screening: GridView) -> Section:
    """Table 1 of the paper, what each loss is worth: its rows with ours next to them, at full and at screening size."""
    blocks: list[Block] = [
        Paragraph(
            "The paper's figures are of SYSU-MM01 with a ResNet-50 pretrained on ImageNet; ours are of the rendered "
            "synthetic data set with a small network from scratch. The two cannot be compared as numbers: what can be "
            "compared is whether a loss helps, and which row is the best. At full length all of ours have the default "
            "preset's channel exchange and average of weights, at screening size none has; the paper has neither."
        ),
        Paragraph(
            "L_t is this project's reading (soft targets), not the printed equation; with it, and with the gradient "
            "routing of eq. 14 to 16, L_local and L_global reach the tested extractors through the soft target alone. "
            "Rows that have L_com without L_t are therefore identical by construction to the row without L_com: they "
            "are not run, and must not be counted as evidence for or against anything."
        ),
        Paragraph(f"Budget: {budget(view)}. Run by `msclnet grid ablation`."),
        *view.warnings(),
        grid_table(view, MEANING),
    ]
    if any(row.statistics.differences for row in view.rows):
        blocks.append(gains(view))
    blocks += [
        Heading("The same rows at screening size"),
        Paragraph(f"Budget: {budget(screening)}. Run by `msclnet grid ablation-screening`."),
        *screening.warnings(),
        grid_table(screening, MEANING + " Score: mean of Rank-1 and mAP over both directions."),
    ]
    return Section("Table 1: what each loss is worth", blocks)


@styled()
def gains(view: GridView) -> Picture:
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
    confidence = f"{100 * (1 - view.grid.alpha):g} %"
    return picture(
        "ablation",
        figure,
        description="Gain of each row of Table 1 over the baseline, the paper's and ours",
        caption=f"Line: {confidence} interval of the paired difference; green where it leaves 0 out, grey where it "
        "does not or where there is one seed. The axes have different scales.",
    )


def _reason(row: RowView) -> str:
    if row.same_as:
        return f"identical to {row.same_as.shown}"
    return "diverged" if row.statistics.diverged else "not run"


def _word(axes: Axes, height: int, word: str) -> None:
    axes.annotate(word, (0, height), xytext=(6, 0), textcoords="offset points", va="center", color=NEUTRAL)


def sensitivity(view: GridView) -> Section:
    """Figure 6 of the paper, one weight at a time: curves over its nine values, ours above the paper's."""
    blocks: list[Block] = [
        Paragraph(
            "One weight at a time, the others as in the default method. Ours are figures on validation identities, for "
            "a weight is a setting; the paper's are Rank-1 on SYSU-MM01, read off its plot by eye (about 0.1). Three "
            "seeds of one setting lay up to 13 points apart on the 40 people of this grid: with one seed, a curve "
            "that moves less than that says nothing."
        ),
        Paragraph(f"Budget: {budget(view)}. Run by `msclnet grid sensitivity`."),
        *view.warnings(),
    ]
    if not view.run:
        blocks.append(Paragraph("Ours: not run.", warning=True))
    blocks.append(curves(view))
    if view.run:
        blocks.append(grid_table(view, "Score: mean of Rank-1 and mAP over both directions."))
    return Section("Figure 6: how much the weights matter", blocks)


@styled()
def curves(view: GridView) -> Picture:
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
            nothing_to_show(ours, "not run")
        if base is not None:
            ours.axhline(base.mean, color=NEUTRAL, linewidth=1, linestyle="--")
        stated = [(p, r.row.paper.rank1) for p, r in zip(places, rows, strict=True) if r.row.paper]
        papers.plot(*zip(*stated, strict=True), color=INFRARED, alpha=0.55, marker="o", markersize=4)
        ours.set_title(weight)
        values = [f"{row.row.point.value:g}" for row in rows if row.row.point]
        papers.set_xticks(places, values, fontsize=SMALL_SIZE, rotation=45)
    panels[0, 0].set_ylabel("this project:\nvalidation score, percent")
    panels[1, 0].set_ylabel("paper, SYSU-MM01:\nRank-1, percent")
    return picture(
        "sensitivity",
        figure,
        description="Validation score over each weight, and the paper's Rank-1 over the same values",
        caption="Above: ours (bars: deviation over the seeds, where there are several; dashed: the default preset). "
        "Below, lighter: the paper's, another data set and another axis. Values are spaced evenly, as in the paper.",
    )


def readings(views: list[GridView]) -> Section:
    """A table for each grid without its own section, then the trainings that diverged."""
    blocks: list[Block] = []
    for view in views:
        command = f"msclnet grid {view.grid.name}"
        blocks += [
            Heading(view.grid.title),
            Paragraph(f"Budget: {budget(view)}. Run by `{command}`."),
            *view.warnings(),
            grid_table(view, MEANING),
        ]
        if view.grid.name == "baseline" and any(scored(record) for record in view.records):
            blocks.append(rank1(view))
    return Section("Readings, parts and controls", [*blocks, Heading("What diverged"), *what_diverged(views)])


# An estimate, not a measurement: the start of GPU kernels, some hundred a step, limits a network as small as this.
GPU_STEPS_PER_SECOND = (20, 60)


def cost(views: Sequence[GridView]) -> Section:
    """Measured time per cell and grid, and an estimate for a GPU."""
    low, high = GPU_STEPS_PER_SECOND
    text = (
        "Training alone, from the records: images trained on, divided by images per second. Rendering, preprocessing "
        "and evaluation come on top; the first two once. The machine is the one that wrote the record, with whatever "
        "else it did at the time: seconds of rows from different days are no ratio of their costs. The GPU's "
        f"column is an estimate and no measurement: {low} to {high} steps a second, for a network as small as the "
        "synthetic preset's. Where a record was made on a GPU, its own seconds are measured."
    )
    rows = [row for view in views for row in _costs(view)]
    if not rows:
        return Section("Cost", [Paragraph(text), Paragraph(f"Ours: {NOT_RUN}.", warning=True)])
    frame = pd.DataFrame(rows, index=[OURS if row["Row"] == "all" else PLAIN for row in rows]).fillna("")
    caption = "Means over the finished cells of a row."
    return Section("Cost", [Paragraph(text), Table(frame, caption, words=("Grid", "Row", "Machine"))])


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
