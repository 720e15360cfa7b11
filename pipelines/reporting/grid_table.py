"""A grid as a table: figures over the seeds, beside the paper's where it has any."""

from pipelines.reporting.beside import NOT_RUN
from pipelines.reporting.document import Block, Column, Kind, Row, Table
from pipelines.reporting.grid_view import GridView, RowView

PAPER = "paper, SYSU-MM01"
NONE = "-"


def grid_table(view: GridView, caption: str) -> Block:
    """The table of a grid; columns that would be empty are left out.

    Args:
        view: the grid.
        caption: shown below, with the meaning of the columns.
    """
    titles = _titles(view)
    ours = f"this project, {view.rows[0].params.get('download.dataset', '')}"
    papers = [row.row.paper for row in view.rows]
    columns = {Column("Row"): [row.row.shown for row in view.rows]}
    for title, field in (("Rank-1", "rank1"), ("mAP", "mAP")):
        values = [getattr(paper, field, None) for paper in papers]
        if any(value is not None for value in values):
            column = Column(title, PAPER, number=True)
            columns[column] = [NONE if value is None else f"{value:.2f}" for value in values]
    figures = [_figures(row, titles, baseline=view.grid.baseline) for row in view.rows]
    gain = f"gain in {titles[0]} [{100 * (1 - view.grid.alpha):g} %]"
    for place, title in enumerate(("seeds", *titles, gain)):
        columns[Column(title, ours, number=True)] = [cells[place] for cells in figures]
    remarks = [_remarks(row) for row in view.rows]
    if any(remarks):
        columns[Column("Remarks")] = remarks
    lines = zip(view.rows, zip(*columns.values(), strict=True), strict=True)
    return Table(list(columns), [Row(cells, kind=_kind(row)) for row, cells in lines], caption)


def _titles(view: GridView) -> list[str]:
    found = next((list(row.statistics.spreads) for row in view.rows if row.statistics.spreads), None)
    return found or (["Rank-1", "mAP"] if view.grid.score == "test" else ["score"])


def _figures(row: RowView, titles: list[str], *, baseline: str) -> list[str]:
    """Number of seeds, each figure, and the gain."""
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


def _kind(row: RowView) -> Kind:
    return "plain" if row.statistics.seeds or row.statistics.diverged or row.same_as else "missing"
