"""Section: Figure 6 of the paper, one weight at a time."""

import numpy as np

from msclnet.visualization.style import (
    INFRARED,
    NEUTRAL,
    SMALL_SIZE,
    VISIBLE,
    new_figure,
    nothing_to_show,
    styled,
)
from pipelines.reporting.document import Block, Paragraph, Picture, Section
from pipelines.reporting.grid_table import grid_table
from pipelines.reporting.grid_view import GridView, RowView, budget
from pipelines.reporting.pictures import picture

TITLE = "Figure 6: how much the weights matter"


def sensitivity(view: GridView) -> Section:
    """Curves over the nine values of each weight, ours above the paper's."""
    blocks: list[Block] = [
        Paragraph(
            "One weight at a time, the others as in the default method. Ours are figures on validation identities, for "
            "a weight is a setting; the paper's are Rank-1 on SYSU-MM01, read off its plot by eye (about 0.1). Three "
            "seeds of one setting lay up to 13 points apart on the 40 people of this grid: with one seed, a curve "
            "that moves less than that says nothing."
        ),
        Paragraph(f"Budget: {budget(view)}. Run by `python -m pipelines.flows grid sensitivity`."),
        *view.warnings(),
    ]
    if not view.run:
        blocks.append(Paragraph("Ours: not run.", warning=True))
    blocks.append(curves(view))
    if view.run:
        blocks.append(grid_table(view, "Score: mean of Rank-1 and mAP over both directions."))
    return Section(TITLE, blocks)


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
    base = figures.get(view.grid.baseline)
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
