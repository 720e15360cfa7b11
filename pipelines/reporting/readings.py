"""Sections: readings of the paper's unclear places, screening, and the baseline against the whole."""

from pipelines.reporting.ablation import MEANING
from pipelines.reporting.divergence import what_diverged
from pipelines.reporting.document import Block, Heading, Paragraph, Section
from pipelines.reporting.grid_table import grid_table
from pipelines.reporting.grid_view import GridView, budget

TITLE = "Readings, parts and controls"


def readings(views: list[GridView]) -> Section:
    """A table for each grid that has no section of its own, then what diverged."""
    blocks: list[Block] = []
    for view in views:
        command = f"python -m pipelines.flows grid {view.grid.name}"
        blocks += [
            Heading(view.grid.title),
            Paragraph(f"Budget: {budget(view)}. Run by `{command}`."),
            *view.warnings(),
            grid_table(view, MEANING),
        ]
    return Section(TITLE, [*blocks, Heading("What diverged"), *what_diverged(views)])
