"""Runs the cells of a grid, one or several at a time; a finished cell is never run again."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from msclnet.errors import UserError
from msclnet.recipe import RECIPE
from pipelines.experiments.plan import GridCell, Plan
from pipelines.experiments.record import record_of, record_of_divergence
from pipelines.experiments.results import images_differ, read_results, recipe_of, records_file, write_result
from pipelines.experiments.splits import summarise, write_summary
from pipelines.experiments.statistics import RowStatistics, grid_rows, mean_over_rows
from pipelines.orchestration.runs import DivergedError, run_experiment
from pipelines.orchestration.stage_process import Log, sigterm_raises
from pipelines.orchestration.workspace import FLOWS, base_commit, held
from pipelines.settings import cores, home

if TYPE_CHECKING:
    from msclnet.tracking.run import Tracker


@dataclass(frozen=True)
class CellEnd:
    """The record of a cell, and whether the cell was finished before, so that nothing ran."""

    record: dict[str, Any]
    before: bool


@dataclass(frozen=True)
class CellOutcome:
    """How a cell (`piece`) ended: with a CellEnd or an error, after so many seconds."""

    piece: Any
    result: Any
    error: BaseException | None
    seconds: float


@dataclass(frozen=True)
class Conclusion:
    """The outcome of a grid."""

    rows: list[dict[str, str]]  # a table of the grid's rows, and of their mean where they have one
    failure: str = ""  # why the whole is not complete
    repairable: bool = False  # whether the user can repair all of the failure: nothing crashed
    warning: str = ""  # what a reader of the figures must know
    written: list[Path] = field(default_factory=list)  # the mean over RegDB's splits, relative to the project


def run_grid(
    root: Path,
    plan: Plan,
    *,
    run: Callable[..., CellEnd] | None = None,
    parallel: int = 1,
    identical: bool = False,
    environment: Mapping[str, str] | None = None,
    log: Log = print,
    on_end: Callable[[CellOutcome], None] | None = None,
) -> Conclusion:
    """Run the cells of a plan that are not finished, under one parent run in MLflow.

    A cell that fails is reported and the others go on.

    Args:
        root: the project.
        plan: what `make_plan` made of a grid.
        run: runs one cell; default: `run_grid_cell`.
        parallel: how many cells at a time.
        identical: whether rows that are identical by construction are run as well.
        environment: further variables for the stages.
        log: receives each line of output, with the cell's title in front.
        on_end: called with the outcome of each cell as it comes.

    Raises:
        UserError: `parallel` is less than 1, or MLflow does not answer: no training could begin either.
    """
    run_cell, group = run or run_grid_cell, _open_group(root, plan)
    variables = {**(environment or {}), **({"MSCLNET_PARENT_RUN": group.run_id} if group else {})}
    if parallel > 1 and "OMP_NUM_THREADS" not in os.environ:
        # Threads beyond the cores wait for each other in loops that take processor time.
        variables["OMP_NUM_THREADS"] = str(max(1, cores() // parallel))

    def run_titled(planned: GridCell, stop: Event) -> CellEnd:
        return run_cell(
            root,
            planned,
            environment={**variables, "MSCLNET_GRID_CELL": str(planned.cell.name)},
            log=lambda line: log(f"[{planned.cell.title}] {line}"),
            stop=stop,
        )

    try:
        cells = [cell for cell in plan.cells if identical or cell.same_as is None]
        conclusion = conclude(root, plan, run_parallel(cells, run_titled, parallel=parallel, on_end=on_end))
    except BaseException:
        if group is not None:
            group.finish("KILLED")
        raise
    if group is not None:
        group.log_json({"grid": plan.grid.model_dump(), "overrides": plan.overrides}, "grid.json")
        group.log_json(conclusion.rows, "rows.json")
        for path in conclusion.written:
            group.log_artifact(root / path)
        group.finish("FAILED" if conclusion.failure else "FINISHED")
    return conclusion


def run_grid_cell(
    root: Path,
    planned: GridCell,
    /,
    *,
    environment: Mapping[str, str] | None = None,
    log: Log = print,
    stop: Event | None = None,
) -> CellEnd:
    """Run one cell and write its record, also of a divergence; or take the record that is there. Errors of the run."""
    lock = root / FLOWS / "locks" / f"cell-{planned.cell.name}"
    with held(lock, waiting="another run has this cell: waiting for its end", log=log, stop=stop):
        former = planned.find(read_results(root, planned.grid))
        if former is not None and planned.finished_by(former):
            return CellEnd(former, before=True)
        if former is not None:
            log(f"its record is of recipe {recipe_of(former)}, the present one is {RECIPE}: it is run again")
        try:
            result = run_experiment(
                root, planned.cell, replace=True, environment=environment, log=log, stop=stop
            )
            record = record_of(root, planned, result)
        except DivergedError as error:
            record = record_of_divergence(root, planned, error)
        write_result(root, planned.grid, record)
    return CellEnd(record, before=False)


def run_parallel(
    pieces: Sequence[Any],
    run: Callable[[Any, Event], Any],
    *,
    parallel: int = 1,
    on_end: Callable[[CellOutcome], None] | None = None,
) -> list[CellOutcome]:
    """Run a function on each piece, in threads that see this thread's context variables; outcomes in order.

    A failing piece is noted and the others go on. Whatever ends the call early (Ctrl-C, SIGTERM, a cancelled flow run)
    sets the event that every call has been given, and waits for those under way to end; no further piece is begun.
    """
    if parallel < 1:
        raise UserError(f"parallel is {parallel}: give the number of runs at a time, 1 or more")
    stop = Event()

    def attempt(piece: Any) -> CellOutcome:
        started, result, error = time.monotonic(), None, None
        try:
            result = run(piece, stop)
        except BaseException as raised:
            error = raised
        return CellOutcome(piece, result, error, time.monotonic() - started)

    with sigterm_raises(), ThreadPoolExecutor(parallel) as pool:
        futures = [pool.submit(copy_context().run, attempt, piece) for piece in pieces]
        try:
            for future in as_completed(futures):
                if on_end is not None:
                    on_end(future.result())
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


def ending(outcome: CellOutcome) -> str:
    """One line for the log about a cell that has just ended."""
    title, end, minutes = outcome.piece.cell.title, outcome.result, outcome.seconds / 60
    if end is None:
        return f"{title} failed after {minutes:.1f} min: {outcome.error}"
    if end.before:
        return f"{title} was finished before: {records_file(outcome.piece.grid)}"
    if "diverged" in end.record:
        return f"{title} diverged after {minutes:.1f} min: {end.record['diverged']}"
    return f"{title} is finished after {minutes:.1f} min: {records_file(outcome.piece.grid)}"


def conclude(root: Path, plan: Plan, outcomes: Sequence[CellOutcome]) -> Conclusion:
    """Statistics of the rows of this run, and what is missing.

    The baseline, and for a mean over rows every other row, also count where an earlier run has finished them.
    """
    grid = plan.grid
    records = [outcome.result.record for outcome in outcomes if outcome.result is not None]
    earlier = read_results(root, plan.name)
    others = [(cell, cell.find(earlier)) for cell in plan.others]
    records += [record for cell, record in others if record is not None and cell.finished_by(record)]
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    differing = images_differ(records)
    rows = _table(plan, records, failed)
    written: list[Path] = []
    if grid.mean_over_rows and records and not differing:
        rows.append(_line(mean_over_rows(records, [row.name for row in grid.all_rows]), ""))
        errors = {outcome.piece.row.name: str(outcome.error) for outcome in failed}
        summary = summarise(records, plan.name, preset=grid.preset, overrides=plan.overrides, failed=errors)
        written = write_summary(root, summary) if summary["splits"] else []
    by_message: dict[str, list[str]] = {}
    for outcome in failed:
        by_message.setdefault(str(outcome.error), []).append(outcome.piece.cell.title)
    reasons = [f"{'; '.join(titles)}: {message}" for message, titles in by_message.items()]
    start = f"{len(failed)} of {len(outcomes)} cells failed; started again, only they run"
    warning = "these cells were made of different images: compare with care, or move the file of records away"
    return Conclusion(
        rows=rows,
        failure="\n".join([start, *reasons]) if failed else "",
        repairable=bool(failed) and all(isinstance(outcome.error, UserError) for outcome in failed),
        warning=warning if differing else "",
        written=written,
    )


def _table(
    plan: Plan, records: Sequence[dict[str, Any]], failed: Sequence[CellOutcome]
) -> list[dict[str, str]]:
    chosen = {cell.row.name for cell in plan.cells}
    if plan.grid.mean_over_rows:
        chosen |= {record["row"] for record in records}
    names = [row.name for row in plan.grid.all_rows if row.name in chosen]
    identical = {cell.row.name: cell.same_as for cell in plan.cells if cell.same_as is not None}
    rows = []
    for row in grid_rows(records, names, baseline=plan.grid.baseline, alpha=plan.grid.alpha):
        note = ""
        if broken := [str(o.piece.seed) for o in failed if o.piece.row.name == row.name]:
            note = f"failed with seed {', '.join(broken)}"
        elif row.diverged:
            note = f"diverged with seed {', '.join(map(str, row.diverged))}"
        elif row.name in identical:
            note = f"identical by construction to {identical[row.name]}"
        rows.append(_line(row, note))
    return rows


def _line(row: RowStatistics, note: str) -> dict[str, str]:
    return {"row": row.name, "seeds": str(len(row.seeds)), **row.texts(), "note": note}


def _open_group(root: Path, plan: Plan) -> "Tracker | None":
    """The MLflow run above those of the cells; None where the parameters name no MLflow experiment."""
    if not plan.tracking:
        return None
    from msclnet.tracking.run import Tracker

    tags = {"git_commit": base_commit(root), "score": plan.grid.score}
    return Tracker.group(home=home(root), experiment=plan.tracking, name=plan.name, tags=tags)
