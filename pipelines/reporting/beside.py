"""Published figures on one data set with our own below: as a table, and at a glance."""

from collections.abc import Mapping, Sequence

from msclnet.retrieval.protocol import INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED
from pipelines.reporting.document import Block, Column, Heading, Row, Table
from pipelines.reporting.dot_plot import Method, Panel, dot_plot
from pipelines.reporting.literature import MSCLNET, Published

Columns = Mapping[str, tuple[str, str]]
"""Column -> its group (a mode or a direction) and its metric."""

US = "this project"
NOT_RUN = "not run"
NOT_PRINTED = "-"
GROUPS = {
    "all": "all-search",
    "indoor": "indoor-search",
    VISIBLE_TO_INFRARED: "visible to infrared",
    INFRARED_TO_VISIBLE: "infrared to visible",
}
METRICS = {"rank1": "Rank-1", "rank10": "Rank-10", "rank20": "Rank-20", "mAP": "mAP"}


def our_row(name: str, figures: Mapping[str, str], conditions: str) -> Row:
    """A row of ours; an empty figure is one that was not run."""
    return Row([name, "", "", *(figure or NOT_RUN for figure in figures.values()), conditions], kind="ours")


def beside(
    title: str, published: Sequence[Published], columns: Columns, ours: Sequence[Row], caption: str
) -> list[Block]:
    """The published rows, then ours or one that says that nothing was run; and the same as a picture."""
    table_columns = [
        Column("Method"),
        Column("Year", number=True),
        Column("Venue"),
        *(Column(METRICS[metric], GROUPS[group], number=True) for group, metric in columns.values()),
        Column("Source and conditions"),
    ]
    rows = [
        Row(
            [p.method, str(p.year), p.venue, *(f or NOT_PRINTED for f in p.figures.values()), p.source],
            kind="paper" if p.method == MSCLNET else "plain",
        )
        for p in published
    ]
    rows += ours or [Row([US, "", "", *[NOT_RUN] * len(columns), ""], kind="missing")]
    panels = [_panel(group, columns, rows) for group in dict.fromkeys(group for group, _ in columns.values())]
    return [Heading(title), Table(table_columns, rows, caption), dot_plot(title, panels)]


def _panel(group: str, columns: Columns, rows: Sequence[Row]) -> Panel:
    place = {metric: i for i, (of, metric) in enumerate(columns.values(), start=3) if of == group}
    methods = [
        Method(
            name=f"{row.cells[0]} {NOT_RUN if row.kind == 'missing' else row.cells[1]}".strip(),
            rank1=_number(row.cells[place["rank1"]]),
            mAP=_number(row.cells[place["mAP"]]),
            kind=row.kind,
        )
        for row in rows
    ]
    return Panel(GROUPS[group], methods)


def _number(cell: str) -> float | None:
    """The mean in a cell such as `12.34 ± 0.56`; None where the cell is words."""
    return None if cell in (NOT_RUN, NOT_PRINTED) else float(cell.split()[0])
