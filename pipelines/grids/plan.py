"""From a grid to its cells: row by row, seed by seed, with every mistake found before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.grids.effective import effective, same_setting
from pipelines.grids.inputs import code_digest, relevant
from pipelines.grids.results import read_result, result_path
from pipelines.grids.schema import FOLDER, SEED_KEY, Grid, Row, close
from pipelines.orchestration.cells import Cell, check_cells
from pipelines.orchestration.overrides import flatten
from pipelines.orchestration.project import read_stages, stages_between
from pipelines.orchestration.runs import Validate

_SHOWN = 4


@dataclass(frozen=True)
class GridCell:
    """One row with one seed.

    Attributes:
        grid: name under which experiments and results are kept.
        row: the row.
        seed: its seed.
        cell: the experiment.
        score: `validation` or `test`.
        params: the parameters that its stages read, by dotted key.
        code: digest of the code of its stages.
        same_as: name of an earlier row that is identical by construction, or None.
    """

    grid: str
    row: Row
    seed: int
    cell: Cell
    score: str
    params: dict[str, Any]
    code: str
    same_as: str | None

    @property
    def path(self) -> Path:
        """The file of its results, relative to the project."""
        return result_path(self.grid, self.row.name, self.seed)

    def equals(self, result: Mapping[str, Any]) -> bool:
        """Whether a record was made of the same parameters, code and stages."""
        return (result["params"], result["code"], result["score"]) == (self.params, self.code, self.score)


@dataclass(frozen=True)
class Plan:
    """A grid as it is to be run.

    Attributes:
        name: under which experiments and results are kept.
        grid: as declared.
        overrides: given beside the file, for every cell.
        cells: in the order of the rows, then of the seeds; rows that are identical by construction among them.
        tracking: MLflow experiment of the rows; empty where the parameters name none.
    """

    name: str
    grid: Grid
    overrides: dict[str, Any]
    cells: list[GridCell]
    tracking: str

    def to_run(self, *, identical: bool) -> list[GridCell]:
        """The cells that are worth running; those that are identical by construction on demand."""
        return [cell for cell in self.cells if identical or cell.same_as is None]


def make_plan(
    root: Path,
    grid: Grid,
    *,
    seeds: Sequence[int] | None = None,
    rows: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    name: str | None = None,
    validate: Validate | None = None,
) -> Plan:
    """Lay a grid out and check every cell of it.

    Args:
        root: the project: a git repository with a commit.
        grid: as `load_grid` gives it.
        seeds: instead of the grid's.
        rows: names of the rows to run; default: all.
        overrides: values of params.yaml by dotted key, for every cell.
        name: what the experiments' names begin with and the results' folder is called; default: the grid's name.
        validate: called with each cell's params file; raises UserError.

    Raises:
        UserError: a mistake, named with its row; or experiments or results of other parameters have these names.
    """
    overrides, name = flatten(overrides or {}), name or grid.name
    seeds = list(dict.fromkeys(grid.seeds if seeds is None else seeds))
    known = [row.name for row in grid.all_rows]
    chosen = known if rows is None else list(dict.fromkeys(rows))
    if unknown := [row for row in chosen if row not in known]:
        raise UserError(f"{FOLDER / grid.name}.yaml has no row {unknown[0]!r}{close(unknown[0], known)}")
    if not (seeds and chosen):
        raise UserError("no seed or no row is named: name some, or leave them out for all")
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:
        raise UserError(f"a seed is a whole number from 0 to 2^32 - 1, not {wrong[0]}")
    if SEED_KEY in overrides:
        raise UserError("seed is set for each cell: name the seeds instead of overriding it")
    stages_between(read_stages(root), until=grid.until)

    code = code_digest(root, until=grid.until)
    first: dict[str, str] = {}  # effective parameters -> row that has them first
    planned: list[GridCell] = []
    tracking = ""
    for row in grid.all_rows:
        cells = [_cell(grid, name, row, seed, overrides) for seed in seeds]
        every = _checked(root, grid, row, cells, validate)
        tracking = tracking or str(every[0].get("tracking.experiment", ""))
        same = first.setdefault(effective(every[0]), row.name)
        planned += [
            GridCell(
                grid=name,
                row=row,
                seed=seed,
                cell=cell,
                score=grid.score,
                params=relevant(root, params, until=grid.until),
                code=code,
                same_as=None if same == row.name else same,
            )
            for seed, cell, params in zip(seeds, cells, every, strict=True)
            if row.name in chosen
        ]
    _check_results(root, planned)
    return Plan(name=name, grid=grid, overrides=overrides, cells=planned, tracking=tracking)


def _cell(grid: Grid, name: str, row: Row, seed: int, overrides: Mapping[str, Any]) -> Cell:
    given = {**flatten(grid.overrides), **flatten(row.overrides), **overrides, SEED_KEY: seed}
    return Cell(
        title=f"{row.name}, seed {seed}",
        name=f"{name}-{row.name}-s{seed}",
        overrides=given,
        preset=row.preset or grid.preset,
        until=grid.until,
    )


def _checked(
    root: Path, grid: Grid, row: Row, cells: Sequence[Cell], validate: Validate | None
) -> list[dict[str, Any]]:
    try:
        # Seeds change nothing that could be wrong: the schema is asked once a row.
        every = check_cells(root, cells[:1], validate=validate) + check_cells(root, cells[1:])
        if grid.score == "validation" and every[0].get("preprocess.validation") == "none":
            raise UserError(
                "preprocess.validation is 'none', so there are no identities for score 'validation': take 'held_out'"
            )
    except UserError as error:
        raise UserError(f"{FOLDER / grid.name}.yaml, row {row.name}: {error}") from error
    return every


def _check_results(root: Path, cells: Sequence[GridCell]) -> None:
    """Refuse to overwrite the record of another setting; of other code alone it may be made anew, git has the old."""
    for cell in cells:
        result = read_result(root, cell.path)
        if result is None:
            continue
        theirs, same = result["params"], same_setting(result["params"], cell.params)
        if not same or result["score"] != cell.score:
            other = [] if same else [key for key in theirs if theirs[key] != cell.params.get(key)]
            changes = [f"{key}: {theirs.get(key)} -> {cell.params.get(key)}" for key in other] or [
                f"score: {result['score']} -> {cell.score}"
            ]
            more = " ..." if len(changes) > _SHOWN else ""
            raise UserError(
                f"{cell.path} was made with other parameters ({'; '.join(changes[:_SHOWN])}{more}): give another name "
                f"(--name), or move the folder {cell.path.parent} away"
            )
