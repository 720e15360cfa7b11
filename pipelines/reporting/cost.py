"""Section: what the grids cost."""

from collections.abc import Sequence

from pipelines.reporting.beside import NOT_RUN
from pipelines.reporting.document import Block, Column, Paragraph, Row, Section, Table
from pipelines.reporting.grid_view import GridView

TITLE = "Cost"
# No measurement: a network this small is bound by the start of GPU kernels, some hundred a step.
GPU_STEPS_PER_SECOND = (20, 60)


def cost(views: Sequence[GridView]) -> Section:
    """Time per cell and grid, measured, and an estimate for a GPU."""
    columns = [
        Column("Grid"),
        Column("Row"),
        Column("cells", number=True),
        Column("steps", number=True),
        Column("training, s a cell", number=True),
        Column("steps/s", number=True),
        Column("one modern GPU, s a cell (estimate)", number=True),
        Column("Machine"),
    ]
    rows = [line for view in views for line in _rows(view)]
    low, high = GPU_STEPS_PER_SECOND
    text = (
        "Training alone, from the records: images trained on, divided by images per second. Rendering, preprocessing "
        "and evaluation come on top; the first two once. The machine is the one that wrote the record, with whatever "
        "else it did at the time: seconds of rows from different days are no ratio of their costs. The GPU's "
        f"column is an estimate and no measurement: {low} to {high} steps a second, for a network as small as the "
        "synthetic preset's. Where a record was made on a GPU, its own seconds are measured."
    )
    blocks: list[Block] = [Paragraph(text)]
    if rows:
        blocks.append(Table(columns, rows, "Means over the finished cells of a row."))
    else:
        blocks.append(Paragraph(f"Ours: {NOT_RUN}.", warning=True))
    return Section(TITLE, blocks)


def _rows(view: GridView) -> list[Row]:
    rows = []
    total, cells = 0.0, 0
    for row in view.rows:
        records = [record for record in view.of(row.row.name) if record["training"]["seconds"]]
        if not records:
            continue
        seconds = sum(record["training"]["seconds"] for record in records)
        steps = sum(record["training"]["steps"] for record in records)
        total, cells = total + seconds, cells + len(records)
        machines = {(r["machine"]["device"], r["machine"]["cores"]) for r in records}
        low, high = (steps / len(records) / speed for speed in reversed(GPU_STEPS_PER_SECOND))
        rows.append(
            Row(
                [
                    view.grid.name,
                    row.row.shown,
                    str(len(records)),
                    f"{steps / len(records):,.0f}",
                    f"{seconds / len(records):,.0f}",
                    f"{steps / seconds:.1f}",
                    f"{low:,.0f} to {high:,.0f}",
                    "; ".join(f"{device}, {cores} cores" for device, cores in sorted(machines)),
                ]
            )
        )
    if rows:
        rows.append(
            Row(
                [view.grid.name, "all", str(cells), "", f"{total / 3600:.2f} h together", "", "", ""],
                kind="ours",
            )
        )
    return rows
