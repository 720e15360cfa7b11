"""The grids of experiments/*.yaml: what such a file may hold, and the cells (row by seed) that it comes to."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from msclnet.errors import UserError
from msclnet.recipe import RECIPE
from pipelines.experiments.equivalence import effective, same_setting
from pipelines.experiments.results import read_results, recipe_of, records_file
from pipelines.orchestration.dvc_files import read_stages, stages_between
from pipelines.orchestration.experiments import Experiment, check_experiments
from pipelines.orchestration.overrides import flatten
from pipelines.stages.config import read_yaml
from pipelines.stages.params import Fraction, NotNegative, Seed

FOLDER = Path("experiments")
SEED_KEY = "seed"  # set for each cell
_SHOWN = 4

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$")]
Percent = Annotated[float, Field(ge=0, le=100)]


class Strict(BaseModel):
    """Unknown keys are errors, and values are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Paper(Strict):
    """The paper's figures for a row, in percent, on the paper's data set."""

    rank1: Percent
    mAP: Percent | None = None


class Point(Strict):
    """The place of a row on a curve."""

    parameter: Name
    value: NotNegative


class Row(Strict):
    """One setting: `overrides` on top of the grid's, and `preset` in place of the grid's."""

    name: Name
    title: str = ""
    preset: str | None = None
    overrides: dict[str, Any] = {}
    paper: Paper | None = None
    point: Point | None = None
    note: str = ""

    @property
    def shown(self) -> str:
        """The row's title, or its name."""
        return self.title or self.name


class Grid(Strict):
    """A file of experiments/.

    Attributes:
        name: the file's name without its ending.
        title: for reports.
        preset: the file of presets/ that every row begins with.
        overrides: values of params.yaml for every row, for example a smaller budget.
        seeds: every row is run with each of them.
        until: the last stage.
        score: the identities that the figures come from. Under `validation` no stage after `train` runs: the test
            identities are not even embedded.
        baseline: the row that the others are compared with; None compares none.
        mean_over_rows: whether the rows are repetitions, such as RegDB's ten splits, that have a common mean.
        alpha: 1 - confidence of the intervals.
        rows: the rows, or the name of another grid: its rows and, below this grid's, its overrides.
    """

    name: Name
    title: str
    preset: str
    overrides: dict[str, Any] = {}
    seeds: Annotated[list[Seed], Field(min_length=1)]
    until: str
    score: Literal["validation", "test"]
    baseline: Name | None = None
    mean_over_rows: bool = False
    alpha: Annotated[Fraction, Field(gt=0, lt=1)] = 0.05
    rows: Annotated[list[Row], Field(min_length=1)] | Name

    @model_validator(mode="after")
    def consistent(self) -> "Grid":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ from each other, not {self.seeds}")
        last = {"validation": ("train",), "test": ("evaluate", "visualize")}[self.score]
        if self.until not in last:
            raise ValueError(
                f"until must be {' or '.join(map(repr, last))} for score {self.score!r}, not {self.until!r}"
            )
        if any(SEED_KEY in flatten(each.overrides) for each in (self, *self.all_rows)):
            raise ValueError("overrides must not set the seed: every row is run with each of `seeds`")
        names = [row.name for row in self.all_rows]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"rows must have different names, not two {sorted(twice)[0]!r}")
        if names and self.baseline not in (None, *names):
            raise ValueError(
                f"baseline must be the name of a row, not {self.baseline!r}{close(str(self.baseline), names)}"
            )
        return self

    @property
    def all_rows(self) -> list[Row]:
        """The rows; empty while they are the name of another grid."""
        return [] if isinstance(self.rows, str) else self.rows


def grid_names(root: Path) -> list[str]:
    """Names of the grids in experiments/, sorted."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.yaml"))


def load_grid(root: Path, name: str) -> Grid:
    """Read experiments/<name>.yaml, with the rows of another grid where it names one.

    Raises:
        UserError: there is no such file, or a key or value in it is wrong; every mistake is named.
    """
    grid = _read(root, name)
    if not isinstance(grid.rows, str):
        return grid
    other = _read(root, grid.rows)
    if isinstance(other.rows, str):
        raise UserError(
            f"{FOLDER / name}.yaml: rows is {grid.rows!r}, which takes its rows from {other.rows!r}: name that one"
        )
    overrides = {**flatten(other.overrides), **flatten(grid.overrides)}
    values = {**grid.model_dump(), "overrides": overrides, "rows": [row.model_dump() for row in other.rows]}
    return _checked_grid(values, FOLDER / f"{name}.yaml")


def close(word: str, known: Sequence[str]) -> str:
    """` (did you mean ...?)`, or the list of what there is."""
    found = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {found[0]!r}?)" if found else f"; there are: {', '.join(known) or 'none'}"


def _read(root: Path, name: str) -> Grid:
    known = grid_names(root)
    if name not in known:
        raise UserError(f"no grid {name!r} in {FOLDER}/{close(name, known)}")
    file = FOLDER / f"{name}.yaml"
    values = read_yaml(root / file)
    if not isinstance(values, dict):
        raise UserError(f"{file} holds no keys; {FOLDER}/ablation.yaml is an example")
    grid = _checked_grid(values, file)
    if grid.name != name:
        raise UserError(f"{file}: name is {grid.name!r}; name it {name!r}, as the file is called")
    return grid


def _checked_grid(values: dict[str, Any], file: Path) -> Grid:
    try:
        return Grid.model_validate(values)
    except ValidationError as error:
        lines = dict.fromkeys(f"  {_mistake(problem, values)}" for problem in error.errors())
        raise UserError(f"{file} is not valid:\n" + "\n".join(lines)) from None


def _mistake(problem: Any, values: dict[str, Any]) -> str:
    # `rows` may be a list or a name; pydantic puts the alternative into the location, which helps no reader.
    place = [part for part in problem["loc"] if not str(part).startswith(("list[", "constrained-str"))]
    model: type[BaseModel] = Grid
    if place[:1] == ["rows"] and len(place) > 1 and isinstance(place[1], int):
        row = values["rows"][place[1]]
        place[:2] = [f"row {row.get('name', place[1] + 1) if isinstance(row, dict) else place[1] + 1}"]
        model = Paper if "paper" in place else Row
    where = ".".join(str(part) for part in place) or "the whole file"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key{close(str(place[-1]), list(model.model_fields))}"
    if problem["type"] == "missing":
        return f"{where}: this key is missing"
    if problem["type"] == "value_error":
        return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
    return f"{where}: {problem['msg']}, not {problem['input']!r}"


@dataclass(frozen=True)
class GridCell:
    """One row with one seed.

    Attributes:
        grid: the name under which experiments and records are kept.
        row: the row.
        seed: its seed.
        cell: the experiment.
        score: `validation` or `test`.
        params: the parameters that its stages read, by dotted key.
        same_as: name of an earlier row that is identical by construction, or None.
        reports: whether its record keeps the report of every protocol and feature, for the mean over rows.
    """

    grid: str
    row: Row
    seed: int
    cell: Experiment
    score: str
    params: dict[str, Any]
    same_as: str | None = None
    reports: bool = False

    def find(self, records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
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
    """A grid as it is to be run.

    Attributes:
        name: the name under which experiments and records are kept.
        grid: as declared.
        overrides: given in addition to the file's, for every cell.
        cells: in the order of the rows, then of the seeds; rows that are identical by construction among them.
        others: likewise, of the rows that are not to be run now.
        tracking: MLflow experiment of the cells; empty where the parameters name none.
    """

    name: str
    grid: Grid
    overrides: dict[str, Any]
    cells: list[GridCell]
    others: list[GridCell]
    tracking: str

    def to_run(self, *, identical: bool) -> list[GridCell]:
        """The cells that are worth running; with `identical` those that are identical by construction as well."""
        return [cell for cell in self.cells if identical or cell.same_as is None]


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

    Raises:
        UserError: a mistake, named with its row; or experiments or records of other parameters have these names.
    """
    overrides, name = flatten(overrides or {}), name or grid.name
    seeds = list(dict.fromkeys(grid.seeds if seeds is None else seeds))
    known = [row.name for row in grid.all_rows]
    chosen = known if rows is None else list(rows)
    if unknown := [row for row in chosen if row not in known]:
        raise UserError(f"{FOLDER / grid.name}.yaml has no row {unknown[0]!r}{close(unknown[0], known)}")
    if not (seeds and chosen):
        raise UserError("no seed or no row is named: name some, or leave them out for all")
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:
        raise UserError(f"a seed is a whole number from 0 to 2^32 - 1, not {wrong[0]}")
    if SEED_KEY in overrides:
        raise UserError("seed is set for each cell: name the seeds instead of overriding it")
    stages_between(read_stages(root), until=grid.until)

    grid = grid if preset is None else grid.model_copy(update={"preset": preset})
    first: dict[str, str] = {}  # effective parameters -> the row that has them first
    cells: list[GridCell] = []
    tracking = ""
    for row in grid.all_rows:
        experiments = [_experiment(grid, name, row, seed, overrides) for seed in seeds]
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
                params=relevant(root, params, until=grid.until),
                same_as=None if same == row.name else same,
                reports=grid.mean_over_rows,
            )
            for seed, experiment, params in zip(seeds, experiments, every, strict=True)
        ]
    selected = [cell for cell in cells if cell.row.name in chosen]
    _check_records(root, name, selected)
    others = [cell for cell in cells if cell.row.name not in chosen]
    return Plan(name, grid, overrides, cells=selected, others=others, tracking=tracking)


def relevant(root: Path, params: Mapping[str, Any], *, until: str) -> dict[str, Any]:
    """The parameters that the stages of dvc.yaml up to `until` read, by dotted key.

    Args:
        root: the project.
        params: all parameters by dotted key.
        until: the last stage.
    """
    stages = read_yaml(root / "dvc.yaml")["stages"]
    names = list(stages)
    selected = [stages[name] for name in names[: names.index(until) + 1]]
    keys = [key for stage in selected for key in stage.get("do", stage).get("params", [])]
    prefixes = tuple(f"{key}." for key in keys)
    return {name: value for name, value in params.items() if name in keys or name.startswith(prefixes)}


def _experiment(grid: Grid, name: str, row: Row, seed: int, overrides: Mapping[str, Any]) -> Experiment:
    return Experiment(
        title=f"{row.name}, seed {seed}",
        name=f"{name}-{row.name}-s{seed}",
        overrides={**flatten(grid.overrides), **flatten(row.overrides), **overrides, SEED_KEY: seed},
        preset=row.preset or grid.preset,
        until=grid.until,
    )


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
        record = cell.find(records)
        if record is None:
            continue
        changes = [] if record["score"] == cell.score else [f"score: {record['score']} -> {cell.score}"]
        if not same_setting(record["params"], cell.params):
            theirs = {**cell.params, **record["params"]}
            other = [key for key in theirs if theirs[key] != cell.params.get(key)]
            changes += [f"{key}: {theirs[key]} -> {cell.params.get(key)}" for key in other]
        if changes:
            more = " ..." if len(changes) > _SHOWN else ""
            raise UserError(
                f"{records_file(name)} has a record of {cell.cell.title} with other parameters "
                f"({'; '.join(changes[:_SHOWN])}{more}): give another name (--name), or move the file away"
            )
