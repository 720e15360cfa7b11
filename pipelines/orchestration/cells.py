"""A set of experiments declared as data: each cell is one DVC experiment under a name of its own.

A set can be started again at any time. `run_experiment` finds a finished cell by its inputs, not by its name, and a
stage whose own inputs are those of a former run comes from DVC's cache: what was trained is not trained again.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.orchestration import experiments
from pipelines.orchestration.git import base_commit, git
from pipelines.orchestration.overrides import apply_overrides, apply_preset, flatten
from pipelines.orchestration.runs import ExperimentResult, RunOptions, Validate, run_experiment
from pipelines.stages.config import load_yaml

_SHOWN = 4


@dataclass(frozen=True)
class Cell:
    """One experiment of a set.

    Attributes:
        title: what it is called in logs, for example `split 3`.
        name: the experiment's name.
        overrides: values of params.yaml by dotted key.
        preset: name of the file in presets/ that takes the place of params.yaml, or None.
        until: last stage, or None for all.
    """

    title: str
    name: str
    overrides: Mapping[str, Any]
    preset: str | None = None
    until: str | None = None


def check_cells(
    root: Path, cells: Sequence[Cell], *, validate: Validate | None = None
) -> list[dict[str, Any]]:
    """Find every mistake before the first cell runs, and protect results of other settings under the same names.

    Args:
        root: the project: a git repository with a commit.
        cells: the set.
        validate: called with the path of each cell's params file; raises UserError.

    Returns:
        Each cell's parameters by dotted key.

    Raises:
        UserError: a wrong name, preset, key or value; or an experiment of a cell's name was made with other
            parameters.
    """
    base = base_commit(root)
    parameters, taken = [], []
    for cell in cells:
        experiments.check_name(root, cell.name)
        values = _parameters(root, cell, validate)
        parameters.append(values)
        found = experiments.find(root, base, cell.name)
        if found is None:
            continue
        theirs = flatten(_load(git(root, "cat-file", "blob", f"{found.rev}:params.yaml"), cell.name))
        if other := [key for key in {**values, **theirs} if values.get(key) != theirs.get(key)]:
            taken.append((cell.name, [f"{key}: {theirs.get(key)} -> {values.get(key)}" for key in other]))
    if taken:
        names = [name for name, _ in taken]
        changes = "; ".join(taken[0][1][:_SHOWN]) + (" ..." if len(taken[0][1]) > _SHOWN else "")
        raise UserError(
            f"experiments with other parameters ({changes}) exist as {', '.join(names)}: choose another name, "
            f"or remove them with `dvc exp remove {' '.join(names)}`"
        )
    return parameters


def run_cell(
    root: Path, cell: Cell, *, validate: Validate | None = None, options: RunOptions | None = None
) -> ExperimentResult:
    """Run one cell as an experiment of the present commit.

    An experiment of the same name that was made from other files (code that has been changed since) is replaced, and
    the log says so: its trained model still comes from the cache if the change does not concern the training.
    `check_cells` has refused before where the parameters differ.

    Args:
        root: the project.
        cell: what to run.
        validate: as for `run_experiment`.
        options: how to run.

    Raises:
        UserError: a mistake, reported by a stage for example.
        StageFailedError: a stage crashed, again and again.
        StageCancelledError: `options.stop` was set.
    """
    options = options or RunOptions()
    base = base_commit(root)
    former = experiments.find(root, base, cell.name)
    result = run_experiment(
        root,
        overrides=cell.overrides,
        preset=cell.preset,
        name=cell.name,
        until=cell.until,
        validate=validate,
        replace=True,
        options=options,
    )
    present = experiments.find(root, base, cell.name)
    if former is not None and present is not None and former.record.inputs != present.record.inputs:
        options.on_line(
            f"files have changed since {cell.name} was made: it replaces the former one, commit {former.rev[:10]}"
        )
    return result


def _parameters(root: Path, cell: Cell, validate: Validate | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        params = Path(folder) / "params.yaml"
        if cell.preset:
            apply_preset(root, cell.preset, target=params)
        else:
            params.write_bytes((root / "params.yaml").read_bytes())
        apply_overrides(params, cell.overrides)
        try:
            if validate is not None:
                validate(params)
        except UserError as error:
            source = f"presets/{cell.preset}.yaml" if cell.preset else "params.yaml"
            here = f"{source} with the given overrides"
            raise UserError(str(error).replace(str(params), here)) from error
        return flatten(_load(params.read_bytes(), cell.name))


def _load(text: bytes, name: str) -> dict[str, Any]:
    values = load_yaml(text, source=f"params.yaml of {name}")
    return values if isinstance(values, dict) else {}
