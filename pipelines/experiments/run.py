"""Run the cells of a plan, one at a time or several; what is finished is never run again."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msclnet.errors import UserError
from pipelines.experiments.grid import GridCell, Plan
from pipelines.experiments.record import record_of, record_of_divergence
from pipelines.experiments.results import read_result, read_results, write_result
from pipelines.orchestration.cells import run_cell
from pipelines.orchestration.git import base_commit
from pipelines.orchestration.locks import held_lock
from pipelines.orchestration.runs import RunOptions, Validate
from pipelines.orchestration.side_by_side import Outcome
from pipelines.settings import home

if TYPE_CHECKING:
    from msclnet.tracking.group import RunGroup

# msclnet.training.loop's words. They reach this process as text, for the training is a process of its own.
_DIVERGED = re.compile(r"training stopped in epoch \d+, step \d+: ")


@dataclass(frozen=True)
class CellEnd:
    """How a cell ended that has a record.

    Attributes:
        path: of the record, relative to the project.
        record: its contents.
        before: whether it was finished before, so that nothing ran.
    """

    path: Path
    record: dict[str, Any]
    before: bool


CellOutcome = Outcome[GridCell, CellEnd]


def open_group(root: Path, plan: Plan) -> "RunGroup | None":
    """The MLflow run above those of the cells; None where the parameters name no MLflow experiment.

    Raises:
        UserError: MLflow does not answer; no training could begin either.
    """
    if not plan.tracking:
        return None
    from msclnet.tracking.group import RunGroup

    tags = {"git_commit": base_commit(root), "score": plan.grid.score}
    return RunGroup.open(home=home(root), experiment=plan.tracking, name=plan.name, tags=tags)


def run_grid_cell(
    root: Path,
    planned: GridCell,
    *,
    group: "RunGroup | None" = None,
    validate: Validate | None = None,
    options: RunOptions | None = None,
) -> CellEnd:
    """Run one cell and write its record, or take the record that is there.

    A record counts if it was made of the same parameters, code and stages; a name alone proves nothing. A training
    that diverged is an outcome and gets a record as well.

    Args:
        root: the project.
        planned: the cell.
        group: the MLflow run above.
        validate: called with the cell's params file; raises UserError.
        options: how to run.

    Raises:
        UserError: a mistake, reported by a stage for example.
        StageFailedError: a stage crashed, again and again.
        StageCancelledError: `options.stop` was set.
    """
    options = options or RunOptions()
    lock = root / ".dvc" / "tmp" / "flows" / "locks" / f"cell-{planned.cell.name}"
    with held_lock(lock, on_wait=lambda: options.on_line("another run has this cell: waiting for its end")):
        former = read_result(root, planned.path)
        if former is not None and planned.equals(former):
            return CellEnd(planned.path, former, before=True)
        record = _run(root, planned, group, validate, options)
        if former is not None:
            options.on_line(f"the code has changed since {planned.path} was written: it is written anew")
        write_result(root, planned.path, record)
    return CellEnd(planned.path, record, before=False)


def _run(
    root: Path,
    planned: GridCell,
    group: "RunGroup | None",
    validate: Validate | None,
    options: RunOptions,
) -> dict[str, Any]:
    environment = {**options.environment, "MSCLNET_GRID_CELL": planned.cell.name}
    if group is not None:
        environment["MSCLNET_PARENT_RUN"] = group.run_id
    options = replace(options, environment=environment)
    try:
        result = run_cell(root, planned.cell, validate=validate, options=options)
    except UserError as error:
        if not _DIVERGED.search(str(error)):
            raise
        rows, steps = [], []
        if group is not None:
            rows = group.history_of("grid_cell", planned.cell.name)
            steps = group.last_steps_of("grid_cell", planned.cell.name)
        return record_of_divergence(root, planned, str(error), rows, steps)
    return record_of(root, planned, result, options.seconds)


def ending(outcome: CellOutcome) -> str:
    """One line for the log about a cell that has just ended."""
    title, end, minutes = outcome.piece.cell.title, outcome.result, outcome.seconds / 60
    if end is None:
        return f"{title} failed after {minutes:.1f} min: {outcome.error}"
    if end.before:
        return f"{title} was finished before: {end.path}"
    if "diverged" in end.record:
        return f"{title} diverged after {minutes:.1f} min: {end.record['diverged']}"
    return f"{title} is finished after {minutes:.1f} min: {end.path}"


@dataclass(frozen=True)
class Conclusion:
    """What a grid came to.

    Attributes:
        rows: for a table, a row for each of the grid's.
        failure: why the whole is not complete, or empty.
        mistaken: whether the failure is the user's to repair, and no crash.
    """

    rows: list[dict[str, str]]
    failure: str
    mistaken: bool


def conclude(root: Path, plan: Plan, outcomes: Sequence[CellOutcome]) -> Conclusion:
    """Figures over the seeds of this run, and what is missing.

    Args:
        root: the project, for the baseline's records where the baseline is not among the rows of this run.
        plan: the grid.
        outcomes: how each cell ended, as `run_side_by_side` gives them.
    """
    from pipelines.experiments.statistics import grid_rows

    records = [outcome.result.record for outcome in outcomes if outcome.result is not None]
    baseline = plan.grid.baseline
    if baseline not in {outcome.piece.row.name for outcome in outcomes}:
        earlier = [record for record in read_results(root, plan.name) if record["row"] == baseline]
        records += [record for record in earlier if record["code"] == plan.cells[0].code]
    identical = {cell.row.name: cell.same_as for cell in plan.cells if cell.same_as is not None}
    names = list(dict.fromkeys(cell.row.name for cell in plan.cells))
    statistics = grid_rows(records, names, baseline=baseline, alpha=plan.grid.alpha)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    rows = []
    for row in statistics:
        note = ""
        if broken := [str(o.piece.seed) for o in failed if o.piece.row.name == row.name]:
            note = f"failed with seed {', '.join(broken)}"
        elif row.diverged:
            note = f"diverged with seed {', '.join(map(str, row.diverged))}"
        elif row.name in identical:
            note = f"identical by construction to {identical[row.name]}"
        rows.append({"row": row.name, "seeds": str(len(row.seeds)), **row.texts(), "note": note})
    return Conclusion(
        rows=rows,
        failure=_failure(len(outcomes), failed),
        mistaken=bool(failed) and all(isinstance(outcome.error, UserError) for outcome in failed),
    )


def close_group(group: "RunGroup | None", plan: Plan, conclusion: Conclusion) -> None:
    """Store the table in the MLflow run above, and end it."""
    if group is not None:
        group.log_json({"grid": plan.grid.model_dump(), "overrides": plan.overrides}, "grid.json")
        group.log_json(conclusion.rows, "rows.json")
        group.finish("FAILED" if conclusion.failure else "FINISHED")


def _failure(number: int, failed: Sequence[CellOutcome]) -> str:
    if not failed:
        return ""
    by_message: dict[str, list[str]] = {}
    for outcome in failed:
        by_message.setdefault(str(outcome.error), []).append(outcome.piece.cell.title)
    reasons = [f"{'; '.join(titles)}: {message}" for message, titles in by_message.items()]
    return "\n".join([f"{len(failed)} of {number} cells failed; started again, only they run", *reasons])
