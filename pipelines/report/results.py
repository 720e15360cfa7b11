"""Loads this project's results, the published numbers, and the records of the grids."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from msclnet.errors import UserError
from pipelines.experiments.equivalence import effective, same_setting
from pipelines.experiments.grid import Grid, Row, load_grid
from pipelines.experiments.results import images_differ, read_results, recipe_of, records_file
from pipelines.experiments.splits import FOLDER
from pipelines.experiments.statistics import RowStatistics, grid_rows
from pipelines.stages import paths
from pipelines.stages.config import flatten, read_yaml
from pipelines.stages.presets import load_preset, preset_names

PLAIN, PAPER, OURS, MISSING = "plain", "paper", "ours", "missing"
"""In the index of a table: whose numbers a row holds, and that it was not run."""
US = "this project"
NOT_RUN = "not run"
TABLES = Path(__file__).parent / "tables"
# The sections of params.yaml that decide what a training gives.
_TRAINED_FROM = ("augment", "model", "synergy", "loss", "train")

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Own:
    """The results of the working tree; fields of what was not run are empty."""

    reports: list[dict[str, Any]] = field(
        default_factory=list
    )  # results/metrics/report.json, shares from 0 to 1
    run: dict[str, Any] = field(default_factory=dict)  # results/train/run.json
    setting: str = ""  # such as `preset synthetic, seed 0`
    differences: int = 0  # of the data from the published counts
    regdb: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # name -> summary over the splits, in percent

    @property
    def dataset(self) -> str:
        """Name of the evaluated data set; empty where nothing was evaluated."""
        return self.reports[0]["dataset"] if self.reports else ""


def read_own(root: Path) -> Own:
    """Read the results of a project."""
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
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): write it again with `{remedy}`") from error


def _setting(root: Path) -> str:
    """The preset with the parameters of the training, from dvc.lock: params.yaml may have been edited since."""
    lock = root / "dvc.lock"
    stages = (read_yaml(lock) or {}).get("stages", {}) if lock.is_file() else {}
    if "train" not in stages:
        return "preset unknown, for there is no dvc.lock with the training"
    trained: dict[str, Any] = stages["train"]["params"][paths.PARAMS.name]
    seed = f"seed {trained.get('seed')}"
    for preset in preset_names(root):
        values = load_preset(preset, root)
        dataset = values["download"]["dataset"]
        alike = all(flatten(trained[name]) == flatten(values[name]) for name in _TRAINED_FROM)
        if alike and dataset == trained["download.dataset"]:
            return f"preset {preset}, {seed}"
    return f"parameters of no preset, {seed}"


def read_published(dataset: str) -> pd.DataFrame:
    """The published numbers on `sysu_mm01` or `regdb` as printed, one row per method; empty where none was printed."""
    return pd.read_csv(TABLES / f"{dataset}.csv", dtype=str, keep_default_na=False)


@dataclass(frozen=True)
class RowView:
    """A row of a grid with its figures over the seeds."""

    row: Row  # as declared
    params: Mapping[str, Any]  # all of them, by dotted key
    statistics: RowStatistics  # without seeds where the row was not run
    same_as: Row | None  # the earlier row that is identical by construction


@dataclass(frozen=True)
class GridView:
    """A grid with the records that were made with the parameters of its file."""

    grid: Grid  # as declared
    rows: Sequence[RowView]
    records: Sequence[Record]
    stale: Sequence[str]  # names of the records with other parameters

    def of(self, row: str | None) -> list[Record]:
        """The records of a row, by seed."""
        return sorted((r for r in self.records if r["row"] == row), key=lambda record: record["seed"])

    @property
    def warnings(self) -> list[str]:
        """What a reader of these figures must know."""
        found = []
        if self.stale:
            some = ", ".join(self.stale[:4]) + (" ..." if len(self.stale) > 4 else "")
            text = "records were made with other parameters than this grid has now, and are left out"
            found.append(f"{len(self.stale)} {text}: {some}")
        recipes = {recipe_of(record) for record in self.records}
        for differ, words in (
            (len(recipes) > 1, f"{len(recipes)} different recipes"),
            (images_differ(self.records), "different images"),
        ):
            if differ:
                found.append(f"These records come from {words}: compare with care, or run the grid again.")
        return found

    @property
    def budget(self) -> str:
        """Length of a cell's training, and the identities that decide, in words."""
        params = self.rows[0].params
        epochs, steps = params.get("train.epochs"), params.get("train.steps_per_epoch")
        length = f"{epochs * steps:,} steps" if epochs and steps else f"{epochs} epochs"
        dataset = params.get("download.dataset", "unknown")
        return f"{length} a cell, data set `{dataset}`, judged on its {self.grid.score} identities"


def read_view(root: Path, name: str) -> GridView:
    """A grid and its records."""
    grid = load_grid(root, name)
    expected = {row.name: row_params(root, grid, row) for row in grid.all_rows}
    every = read_results(root, name)
    fresh = [
        record
        for record in every
        if record["row"] in expected
        and record["score"] == grid.score
        and same_setting(record["params"], expected[record["row"]])
    ]
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
    preset = flatten(load_preset(row.preset or grid.preset, root))
    return {**preset, **flatten(grid.overrides), **flatten(row.overrides)}
