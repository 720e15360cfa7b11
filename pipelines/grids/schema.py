"""What a file of experiments/ may hold: the rows of a grid, each a set of overrides, with the paper's figures."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from msclnet.errors import UserError
from pipelines.orchestration.overrides import flatten
from pipelines.schema import Fraction, NotNegative, Seed

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
        grid = _checked(values, FOLDER / f"{name}.yaml")
    return grid


def close(word: str, known: list[str]) -> str:
    """` (did you mean ...?)`, or what there is."""
    found = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {found[0]!r}?)" if found else f"; there are: {', '.join(known) or 'none'}"


def _read(root: Path, name: str) -> Grid:
    from pipelines.config import read_yaml

    known = grid_names(root)
    if name not in known:
        raise UserError(f"no grid {name!r} in {FOLDER}/{close(name, known)}")
    file = FOLDER / f"{name}.yaml"
    values = read_yaml(root / file)
    if not isinstance(values, dict):
        raise UserError(f"{file} holds no keys; {FOLDER}/ablation.yaml is an example")
    grid = _checked(values, file)
    if grid.name != name:
        raise UserError(f"{file}: name is {grid.name!r}; name it {name!r}, as the file is called")
    return grid


def _checked(values: dict[str, Any], file: Path) -> Grid:
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
