"""Loads what the report shows: this project's own results, the grids' records, the published figures."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.experiments.equivalence import effective, same_setting
from pipelines.experiments.grid import Grid, Row, load_grid
from pipelines.experiments.results import images_differ, read_results, recipe_of, records_file
from pipelines.experiments.splits import FOLDER
from pipelines.experiments.statistics import RowStatistics, grid_rows
from pipelines.orchestration.overrides import flatten, preset_path
from pipelines.report.document import Block, Paragraph
from pipelines.stages import paths
from pipelines.stages.config import read_yaml

# What was measured in this project: the working tree's own run, and the summaries over RegDB's splits.

_TRAINED_FROM = ("augment", "model", "synergy", "loss", "train")


@dataclass(frozen=True)
class Own:
    """Our results.

    Attributes:
        reports: Contents of results/metrics/report.json, shares from 0 to 1; empty where nothing was evaluated.
        run: Contents of results/train/run.json; empty where it is not there.
        setting: What the model was trained by, in words, for example `preset synthetic, seed 0`.
        differences: How many differences from the published counts the data had.
        regdb: Summaries over RegDB's splits, in percent, by name.
    """

    reports: list[dict[str, Any]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    setting: str = ""
    differences: int = 0
    regdb: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """Name of the working tree's data set; empty where nothing was evaluated."""
        return self.reports[0]["dataset"] if self.reports else ""


def read_own(root: Path) -> Own:
    """Read what there is; what was not run is empty.

    Args:
        root: The project.

    Raises:
        UserError: A file is damaged.
    """
    verification = _read(root, paths.DOWNLOAD_REPORT, "dvc repro --force download") or {}
    summaries = {}
    for path in sorted((root / FOLDER).glob("*.json"), key=lambda path: path.stem):
        place = path.relative_to(root)
        summaries[path.stem] = _read(root, place, "msclnet grid regdb")
        if not isinstance(summaries[path.stem], dict) or "splits" not in summaries[path.stem]:
            raise UserError(f"{place} is no summary over RegDB's splits: move it to another folder")
    return Own(
        reports=_read(root, paths.METRICS_REPORT, "dvc repro --force evaluate") or [],
        run=_read(root, paths.RUN, "dvc repro --force train") or {},
        setting=_setting(root),
        differences=len(verification.get("differences", ())),
        regdb=summaries,
    )


def _read(root: Path, path: Path, remedy: str) -> Any:
    try:
        return json.loads((root / path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): write it again with `{remedy}`") from error


def _setting(root: Path) -> str:
    """Which preset the training's parameters are those of: a baseline's figures must not pass for MSCLNet's.

    From dvc.lock, which holds the parameters of the results; params.yaml may have been edited since.
    """
    lock = root / "dvc.lock"
    stages = (read_yaml(lock) or {}).get("stages", {}) if lock.is_file() else {}
    entry = stages.get("train")
    if entry is None:
        return "preset unknown, for there is no dvc.lock with the training"
    trained: dict[str, Any] = entry["params"][paths.PARAMS.name]
    seed = f"seed {trained.get('seed')}"
    for preset in sorted((root / "presets").glob("*.yaml")):
        values = read_yaml(preset)
        dataset = values["download"]["dataset"]
        alike = all(flatten(trained[name]) == flatten(values[name]) for name in _TRAINED_FROM)
        if alike and dataset == trained["download.dataset"]:
            return f"preset {preset.stem}, {seed}"
    return f"parameters of no preset, {seed}"


# Published figures, as printed, from the tables in pipelines/report/tables.

TABLES = Path(__file__).parent / "tables"
MSCLNET = "MSCLNet"


@dataclass(frozen=True)
class Published:
    """One method's figures on one data set.

    Attributes:
        method: Its name.
        year: Of publication.
        venue: Short name of conference or journal.
        source: Where the figures were read.
        figures: Column -> percent as printed; empty where none was printed.
    """

    method: str
    year: int
    venue: str
    source: str
    figures: dict[str, str]


def read_published(dataset: str, *, columns: Sequence[str]) -> list[Published]:
    """The published figures on a data set, in order of the year.

    Args:
        dataset: `sysu_mm01` or `regdb`.
        columns: The figures' columns, all of the file's.

    Raises:
        ValueError: The file has other columns.
    """
    with (TABLES / f"{dataset}.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        if list(reader.fieldnames or ()) != ["method", "year", "venue", *columns, "source"]:
            raise ValueError(f"{dataset}.csv has the columns {reader.fieldnames}")
        return [
            Published(
                method=row["method"],
                year=int(row["year"]),
                venue=row["venue"],
                source=row["source"],
                figures={column: row[column] for column in columns},
            )
            for row in reader
        ]


# The grids of experiments/ with their records, as the sections of the report read them.

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

    def of(self, row: str | None) -> list[Record]:
        """The records of a row, by seed."""
        return sorted((r for r in self.records if r["row"] == row), key=lambda record: record["seed"])

    def warnings(self) -> list[Block]:
        """What a reader of these figures must know."""
        found = []
        if self.stale:
            some = ", ".join(self.stale[:4]) + (" ..." if len(self.stale) > 4 else "")
            text = "records were made with other parameters than this grid has now, and are left out"
            found.append(Paragraph(f"{len(self.stale)} {text}: {some}", warning=True))
        recipes = {recipe_of(record) for record in self.records}
        for differ, words in (
            (len(recipes) > 1, f"{len(recipes)} different recipes"),
            (images_differ(self.records), "different images"),
        ):
            if differ:
                text = f"These records come from {words}"
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
    stale = [f"`{r['row']}, seed {r['seed']}` of {records_file(name)}" for r in every if r not in fresh]
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
