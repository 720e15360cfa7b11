"""Lays a grid out into its cells, row by row and seed by seed, and finds every mistake before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from msclnet.recipe import RECIPE
from pipelines.experiments.equivalence import effective, same_setting
from pipelines.experiments.grid import FOLDER, SEED_KEY, Grid, Row
from pipelines.experiments.results import read_results, recipe_of, records_file
from pipelines.orchestration.dvc_files import read_stages, stages_between
from pipelines.orchestration.experiments import Experiment, changes, check_experiments
from pipelines.stages.config import flatten, read_yaml, suggestion

Record = dict[str, Any]


@dataclass(frozen=True)
class GridCell:
    """One row with one seed."""

    grid: str  # the name under which experiments and records are kept
    row: Row
    seed: int
    cell: Experiment
    score: str  # `validation` or `test`
    params: dict[str, Any]  # that its stages read, by dotted key
    same_as: str | None = None  # an earlier row that is identical by construction
    reports: bool = (
        False  # whether its record keeps the report of every protocol and feature, for the mean over rows
    )

    def find(self, records: Sequence[Record]) -> Record | None:
        """Its record, by row and seed."""
        key = (self.row.name, self.seed)
        return next((record for record in records if (record["row"], record["seed"]) == key), None)

    def finished_by(self, record: Mapping[str, Any] | None) -> bool:
        """Whether a record was made of this setting by the present recipe; its name alone proves nothing."""
        return (
            record is not None
            and recipe_of(record) == RECIPE
            and record["score"] == self.score
            and same_setting(record["params"], self.params)
        )


@dataclass(frozen=True)
class Plan:
    """A grid as it is to be run."""

    name: str  # the name under which experiments and records are kept
    grid: Grid  # as declared
    overrides: dict[str, Any]  # in addition to the file's, for every cell
    cells: list[GridCell]  # by row, then by seed; rows that are identical by construction among them
    others: list[GridCell]  # likewise, of the rows that are not to be run now
    tracking: str  # MLflow experiment of the cells; empty where the parameters name none


def make_plan(
    root: Path,
    grid: Grid,
    *,
    seeds: Sequence[int] | None = None,
    rows: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    preset: str | None = None,
    name: str | None = None,
) -> Plan:
    """Lay a grid out and check every cell of it.

    Args:
        root: the project: a git repository with a commit.
        grid: as `load_grid` gives it.
        seeds: in place of the grid's.
        rows: names of the rows to run; None: all.
        overrides: values of params.yaml by dotted key, for every cell.
        preset: in place of the grid's.
        name: what the experiments' names begin with and the file of records is called; None: the grid's name.
    """
    overrides, name = flatten(overrides or {}), name or grid.name
    seeds = list(dict.fromkeys(grid.seeds if seeds is None else seeds))
    known = [row.name for row in grid.all_rows]
    chosen = known if rows is None else list(rows)
    if unknown := [row for row in chosen if row not in known]:
        raise UserError(f"{FOLDER / grid.name}.yaml has no row {unknown[0]!r}{suggestion(unknown[0], known)}")
    if not (seeds and chosen):
        raise UserError("no seed or no row is named: name some, or leave them out for all")
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:
        raise UserError(f"a seed is a whole number from 0 to 2^32 - 1, not {wrong[0]}")
    if SEED_KEY in overrides:
        raise UserError("seed is set for each cell: name the seeds instead of overriding it")
    stages_between(read_stages(root), last_stage=grid.until)

    grid = grid if preset is None else grid.model_copy(update={"preset": preset})
    first: dict[str, str] = {}  # effective parameters -> the row that has them first
    cells: list[GridCell] = []
    tracking = ""
    for row in grid.all_rows:
        experiments = [
            Experiment(
                title=f"{row.name}, seed {seed}",
                name=f"{name}-{row.name}-s{seed}",
                overrides={**flatten(grid.overrides), **flatten(row.overrides), **overrides, SEED_KEY: seed},
                preset=row.preset or grid.preset,
                until=grid.until,
            )
            for seed in seeds
        ]
        every = _parameters(root, grid, row, experiments)
        tracking = tracking or str(every[0].get("tracking.experiment", ""))
        same = first.setdefault(effective(every[0]), row.name)
        cells += [
            GridCell(
                grid=name,
                row=row,
                seed=seed,
                cell=experiment,
                score=grid.score,
                params=relevant(root, params, last_stage=grid.until),
                same_as=None if same == row.name else same,
                reports=grid.mean_over_rows,
            )
            for seed, experiment, params in zip(seeds, experiments, every, strict=True)
        ]
    selected = [cell for cell in cells if cell.row.name in chosen]
    _check_records(root, name, selected)
    others = [cell for cell in cells if cell.row.name not in chosen]
    return Plan(name, grid, overrides, cells=selected, others=others, tracking=tracking)


def relevant(root: Path, params: Mapping[str, Any], *, last_stage: str) -> dict[str, Any]:
    """The parameters that the stages of dvc.yaml up to the last one read, by dotted key."""
    stages = read_yaml(root / "dvc.yaml")["stages"]
    names = list(stages)
    keys = [key for name in names[: names.index(last_stage) + 1] for key in stages[name].get("params", [])]
    prefixes = tuple(f"{key}." for key in keys)
    return {name: value for name, value in params.items() if name in keys or name.startswith(prefixes)}


def _parameters(root: Path, grid: Grid, row: Row, cells: Sequence[Experiment]) -> list[dict[str, Any]]:
    """All parameters of each cell of a row."""
    try:
        every = check_experiments(root, cells)
        if grid.score == "validation" and every[0].get("preprocess.validation") == "none":
            raise UserError(
                "preprocess.validation is 'none', so there are no identities for score 'validation': take 'held_out'"
            )
        dataset = every[0].get("download.dataset")
        if "preprocess.regdb_split" in cells[0].overrides and dataset != "regdb":
            raise UserError(
                f"preprocess.regdb_split is set, but download.dataset is {dataset!r} with the preset "
                f"{cells[0].preset!r}: take a preset with download.dataset: regdb"
            )
    except UserError as error:
        raise UserError(f"{FOLDER / grid.name}.yaml, row {row.name}: {error}") from error
    return every


def _check_records(root: Path, name: str, cells: Sequence[GridCell]) -> None:
    """Refuse to overwrite records of another setting; those of an older recipe may be replaced, git has them."""
    records = read_results(root, name)
    for cell in cells:
        if (record := cell.find(records)) is None:
            continue
        former = {**cell.params, **record["params"], "score": record["score"]}
        present = {**cell.params, "score": cell.score}
        if record["score"] == cell.score and same_setting(record["params"], cell.params):
            continue
        raise UserError(
            f"{records_file(name)} has a record of {cell.cell.title} with other parameters "
            f"({changes(former, present)}): give another name (--name), or move the file away"
        )
