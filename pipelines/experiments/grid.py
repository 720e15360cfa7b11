"""The grids of experiments/*.yaml: what such a file may hold."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from msclnet.errors import UserError
from pipelines.stages.config import describe, flatten, read_yaml, suggestion
from pipelines.stages.params import Fraction, NotNegative, Section, Seed

FOLDER = Path("experiments")
SEED_KEY = "seed"  # set for each cell

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$")]
Percent = Annotated[float, Field(ge=0, le=100)]


class Paper(Section):
    """The paper's figures for a row, in percent, on the paper's data set."""

    rank1: Percent
    mAP: Percent | None = None


class Point(Section):
    """The place of a row on a curve."""

    parameter: Name
    value: NotNegative


class Row(Section):
    """One setting: `overrides` on top of the grid's, and `preset` in place of the grid's."""

    name: Name
    title: str = ""
    preset: str | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    paper: Paper | None = None
    point: Point | None = None
    note: str = ""

    @property
    def shown(self) -> str:
        """The row's title, or its name."""
        return self.title or self.name


class Grid(Section):
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
    overrides: dict[str, Any] = Field(default_factory=dict)
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
                f"baseline must be the name of a row, not {self.baseline!r}{suggestion(str(self.baseline), names)}"
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
    """Read experiments/<name>.yaml, with the rows of another grid where it names one; every mistake is named."""
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


def _read(root: Path, name: str) -> Grid:
    known = grid_names(root)
    if name not in known:
        raise UserError(f"no grid {name!r} in {FOLDER}/{suggestion(name, known)}")
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
    return describe(problem, model, place=place, example="experiments/ablation.yaml")
