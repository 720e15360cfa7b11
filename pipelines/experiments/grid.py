"""What a file of experiments/ may hold: the rows of a grid, each a set of overrides, with the paper's figures."""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from msclnet.errors import UserError
from pipelines.experiments.equivalence import effective, same_setting
from pipelines.experiments.results import read_result, result_path
from pipelines.orchestration.dvc_files import read_stages, stages_between
from pipelines.orchestration.overrides import flatten
from pipelines.orchestration.runs import Experiment, check_experiments
from pipelines.stages.params import Fraction, NotNegative, Seed

FOLDER = Path("experiments")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$")]
Percent = Annotated[float, Field(ge=0, le=100)]
# Sets each cell's own seed, and is no row's business.
SEED_KEY = "seed"


class Strict(BaseModel):
    """Unknown keys are mistakes, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Paper(Strict):
    """What the paper states for a row, on its own data set."""

    rank1: Percent
    mAP: Percent | None = None


class Point(Strict):
    """Where a row lies on a curve."""

    parameter: Name
    value: NotNegative


class Row(Strict):
    """One setting: `overrides` on top of the grid's, `preset` in the place of the grid's."""

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
    """A grid.

    Attributes:
        name: as the file is called.
        title: for reports.
        preset: file of presets/ that every row begins with.
        overrides: values of params.yaml for every row, a smaller budget for example.
        seeds: every row is run with each.
        until: last stage.
        score: which identities the figures come from. Under `validation` nothing after `train` runs: the test
            identities are not even embedded.
        baseline: the row that the others are compared with.
        alpha: 1 - confidence of the intervals.
        rows: the rows, or the name of the grid whose rows these are, with its overrides below this one's.
    """

    name: Name
    title: str
    preset: str
    overrides: dict[str, Any] = {}
    seeds: Annotated[list[Seed], Field(min_length=1)]
    until: str
    score: Literal["validation", "test"]
    baseline: Name
    alpha: Annotated[Fraction, Field(gt=0, lt=1)] = 0.05
    rows: Annotated[list[Row], Field(min_length=1)] | Name

    @model_validator(mode="after")
    def consistent(self) -> "Grid":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ from each other, not {self.seeds}")
        if self.score == "validation" and self.until != "train":
            raise ValueError(
                f"until must be 'train' for score 'validation', not {self.until!r}: the later stages score the test "
                "identities"
            )
        if self.score == "test" and self.until not in ("evaluate", "visualize"):
            raise ValueError(f"until must be 'evaluate' or 'visualize' for score 'test', not {self.until!r}")
        for row in [self.overrides, *(row.overrides for row in self.all_rows)]:
            if SEED_KEY in flatten(row):
                raise ValueError(
                    "overrides must not set the seed: name seeds, each row is run with every one"
                )
        names = [row.name for row in self.all_rows]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"rows must have different names, not two {sorted(twice)[0]!r}")
        if names and self.baseline not in names:
            raise ValueError(
                f"baseline must be the name of a row, not {self.baseline!r}{close(self.baseline, names)}"
            )
        return self

    @property
    def all_rows(self) -> list[Row]:
        """The rows; empty while they are another grid's."""
        return [] if isinstance(self.rows, str) else self.rows


def grid_names(root: Path) -> list[str]:
    """The grids that there are, by name."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.yaml"))


def load_grid(root: Path, name: str) -> Grid:
    """Read experiments/<name>.yaml, with the rows of another grid where it names one.

    Raises:
        UserError: there is no such file, or a key or value in it is wrong; every mistake is named.
    """
    grid = _read(root, name)
    if isinstance(grid.rows, str):
        other = _read(root, grid.rows)
        if isinstance(other.rows, str):
            raise UserError(
                f"{FOLDER / name}.yaml: rows is {grid.rows!r}, which takes its rows from {other.rows!r}: name that one"
            )
        values = {
            **grid.model_dump(),
            "overrides": {**flatten(other.overrides), **flatten(grid.overrides)},
            "rows": [row.model_dump() for row in other.rows],
        }
        grid = _checked_grid(values, FOLDER / f"{name}.yaml")
    return grid


def close(word: str, known: list[str]) -> str:
    """` (did you mean ...?)`, or what there is."""
    found = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {found[0]!r}?)" if found else f"; there are: {', '.join(known) or 'none'}"


def _read(root: Path, name: str) -> Grid:
    from pipelines.stages.config import read_yaml

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
    # `rows` may be a list or a name; pydantic names the alternatives in the place, which says nothing to a reader.
    place = [part for part in problem["loc"] if not str(part).startswith(("list[", "constrained-str"))]
    where = ".".join(str(part) for part in place) or "the whole file"
    if place[:1] == ["rows"] and len(place) > 1 and isinstance(place[1], int):
        row = values["rows"][place[1]]
        named = row.get("name", place[1] + 1) if isinstance(row, dict) else place[1] + 1
        where = ".".join(["row " + str(named), *(str(part) for part in place[2:])])
    if problem["type"] == "extra_forbidden":
        model: type[BaseModel] = {"rows": Row}.get(str(place[0]), Grid) if len(place) > 1 else Grid
        known = list(Paper.model_fields) if "paper" in place else list(model.model_fields)
        return f"{where}: unknown key{close(str(place[-1]), known)}"
    if problem["type"] == "missing":
        return f"{where}: this key is missing"
    if problem["type"] == "value_error":
        return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
    return f"{where}: {problem['msg']}, not {problem['input']!r}"


# What a cell is made from: the parameters and the code of its stages, each as it is now.


def relevant(root: Path, params: Mapping[str, Any], *, until: str) -> dict[str, Any]:
    """The parameters that the stages up to `until` read, by dotted key.

    Args:
        root: the project.
        params: all parameters by dotted key.
        until: the last stage.
    """
    keys = [key for stage in _stages(root, until) for key in stage.get("params", [])]
    return {
        name: value
        for name, value in params.items()
        if any(name == key or name.startswith(f"{key}.") for key in keys)
    }


def code_digest(root: Path, *, until: str) -> str:
    """sha256 over names and bytes of the Python files that the stages up to `until` depend on, and their commands.

    Docstrings and comments count as well: a file is the same or it is not.
    """
    digest = hashlib.sha256()
    stages = _stages(root, until)
    digest.update(json.dumps([stage["cmd"] for stage in stages]).encode())
    deps = [root / dep for stage in stages for dep in stage.get("deps", [])]
    files = {file for dep in deps for file in (dep.rglob("*.py") if dep.is_dir() else [dep])}
    for file in sorted(file for file in files if file.suffix == ".py" and file.is_file()):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _stages(root: Path, until: str) -> list[dict[str, Any]]:
    from pipelines.stages.config import read_yaml

    stages = read_yaml(root / "dvc.yaml")["stages"]
    names = list(stages)
    selected = names[: names.index(until) + 1] if until in names else names
    return [stages[name].get("do", stages[name]) for name in selected]


# From a grid to its cells: row by row, seed by seed, with every mistake found before anything runs.

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
    cell: Experiment
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
) -> Plan:
    """Lay a grid out and check every cell of it.

    Args:
        root: the project: a git repository with a commit.
        grid: as `load_grid` gives it.
        seeds: instead of the grid's.
        rows: names of the rows to run; default: all.
        overrides: values of params.yaml by dotted key, for every cell.
        name: what the experiments' names begin with and the results' folder is called; default: the grid's name.

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
        every = _checked(root, grid, row, cells)
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


def _cell(grid: Grid, name: str, row: Row, seed: int, overrides: Mapping[str, Any]) -> Experiment:
    given = {**flatten(grid.overrides), **flatten(row.overrides), **overrides, SEED_KEY: seed}
    return Experiment(
        title=f"{row.name}, seed {seed}",
        name=f"{name}-{row.name}-s{seed}",
        overrides=given,
        preset=row.preset or grid.preset,
        until=grid.until,
    )


def _checked(root: Path, grid: Grid, row: Row, cells: Sequence[Experiment]) -> list[dict[str, Any]]:
    try:
        every = check_experiments(root, cells)
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
