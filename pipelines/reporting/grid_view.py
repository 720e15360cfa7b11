"""The grids of experiments/ with their records, as the sections of the report read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config import read_yaml
from pipelines.grids.effective import effective, same_setting
from pipelines.grids.results import RESULTS, read_results
from pipelines.grids.schema import Grid, Row, load_grid
from pipelines.grids.statistics import RowStatistics, grid_rows
from pipelines.orchestration.overrides import flatten, preset_path
from pipelines.reporting.document import Block, Paragraph

Record = Mapping[str, Any]


@dataclass(frozen=True)
class RowView:
    """A row with its figures over the seeds.

    Attributes:
        row: as declared.
        params: all its parameters by dotted key.
        statistics: of its records; without seeds where it was not run.
        same_as: the earlier row that is identical by construction, or None.
    """

    row: Row
    params: Mapping[str, Any]
    statistics: RowStatistics
    same_as: Row | None


@dataclass(frozen=True)
class GridView:
    """A grid with the records that were made as its file says now.

    Attributes:
        grid: as declared.
        rows: in order.
        records: those that count.
        stale: names of records that were made with other parameters than the file has now.
    """

    grid: Grid
    rows: Sequence[RowView]
    records: Sequence[Record]
    stale: Sequence[str]

    @property
    def run(self) -> bool:
        """Whether there is a record."""
        return bool(self.records)

    def of(self, row: str) -> list[Record]:
        """The records of a row, by seed."""
        return sorted((r for r in self.records if r["row"] == row), key=lambda record: record["seed"])

    def warnings(self) -> list[Block]:
        """What a reader of these figures must know."""
        found = []
        if self.stale:
            some = ", ".join(self.stale[:4]) + (" ..." if len(self.stale) > 4 else "")
            text = "records were made with other parameters than this grid has now, and are left out"
            found.append(Paragraph(f"{len(self.stale)} {text}: {some}", warning=True))
        for key, words in (("code", "states of the code"), ("data", "data sets")):
            states = {str(record.get(key, "")) for record in self.records if "diverged" not in record}
            if len(states) > 1:
                text = f"These records come from {len(states)} different {words}"
                found.append(Paragraph(f"{text}: compare with care, or run the grid again.", warning=True))
        return found


def read_view(root: Path, name: str) -> GridView:
    """A grid and its records.

    Args:
        root: the project.
        name: of the grid.

    Raises:
        UserError: the grid's file or a record is damaged.
    """
    grid = load_grid(root, name)
    expected = {row.name: row_params(root, grid, row) for row in grid.all_rows}
    every = read_results(root, name)
    fresh = [record for record in every if _made_as(record, expected.get(record["row"]), grid)]
    statistics = grid_rows(fresh, list(expected), baseline=grid.baseline, alpha=grid.alpha)
    first: dict[str, Row] = {}
    rows = []
    for row, own in zip(grid.all_rows, statistics, strict=True):
        same = first.setdefault(effective(expected[row.name]), row)
        rows.append(RowView(row, expected[row.name], own, None if same is row else same))
    stale = [f"`{RESULTS / name / r['row']}-s{r['seed']}.json`" for r in every if r not in fresh]
    return GridView(grid, rows, fresh, stale)


def row_params(root: Path, grid: Grid, row: Row) -> dict[str, Any]:
    """A row's parameters by dotted key; the seed is the preset's."""
    preset = flatten(read_yaml(preset_path(root, row.preset or grid.preset)))
    return {**preset, **flatten(grid.overrides), **flatten(row.overrides)}


def budget(view: GridView) -> str:
    """How long a cell trains, and on what it is judged, in words."""
    params = view.rows[0].params
    epochs, steps = params.get("train.epochs"), params.get("train.steps_per_epoch")
    length = f"{epochs * steps:,} steps" if epochs and steps else f"{epochs} epochs"
    judged = "validation" if view.grid.score == "validation" else "test"
    dataset = params.get("download.dataset", "unknown")
    return f"{length} a cell, data set `{dataset}`, judged on its {judged} identities"


def _made_as(record: Record, expected: Mapping[str, Any] | None, grid: Grid) -> bool:
    if expected is None or record["score"] != grid.score:
        return False
    return same_setting(record["params"], expected)
