"""The Prefect flows over grids of experiments, and the same from the command line.

python -m pipelines.flows grid NAME [--seeds 0 1 2] [--rows ...] [--set KEY=VALUE ...] [--name NAME] [--parallel N]
"""

from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Failed

from msclnet.errors import UserError
from msclnet.tracking.masking import mask_logs
from pipelines import flows
from pipelines.console import tellable
from pipelines.experiments.grid import GridCell, Plan, load_grid, make_plan
from pipelines.experiments.run import (
    CellEnd,
    CellOutcome,
    close_group,
    conclude,
    ending,
    open_group,
    run_grid_cell,
)
from pipelines.orchestration.runs import RunOptions
from pipelines.orchestration.side_by_side import run_side_by_side
from pipelines.orchestration.stage_process import StageCancelledError
from pipelines.settings import project_root

if TYPE_CHECKING:
    from msclnet.tracking.group import RunGroup


@flow(name="grid", validate_parameters=True)
def grid(
    grid: str,
    seeds: Sequence[int] | None = None,
    rows: Sequence[str] | None = None,
    overrides: dict[str, Any] | None = None,
    name: str | None = None,
    parallel: int = 1,
    identical: bool = False,
) -> Any:
    """Run the cells of a grid: each row with each seed, as a DVC experiment and a child of one MLflow run.

    A finished cell is never run again: its record in experiments/results/ says what it was made of. A cell that
    fails is reported and the others go on; the flow then ends as failed. Started again, it runs only what is missing.

    Args:
        grid: a file of experiments/, without its `.yaml`.
        seeds: empty: the grid's own.
        rows: names of its rows; empty: all.
        overrides: single values of params.yaml for every cell; give a name with them.
        name: what the experiments' names begin with; empty: the grid's name.
        parallel: how many cells to train at a time; all share this machine's processors, memory and GPU.
        identical: whether rows that are identical by construction are run as well.
    """
    mask_logs()
    root, flow_run_id, log = project_root(), flow_run.id, get_run_logger()

    def report(outcome: CellOutcome) -> None:
        log.log(30 if outcome.error else 20, "%s", tellable(ending(outcome)))

    try:
        plan = make_plan(
            root,
            load_grid(root, grid),
            seeds=seeds or None,
            rows=rows or None,
            overrides=overrides,
            name=name or None,
            validate=flows.check_params,
        )
        group = open_group(root, plan)
        outcomes = _run(root, plan, group, flow_run_id, report, parallel=parallel, identical=identical)
    except UserError as error:
        log.error("error: %s", tellable(error))
        return Failed(message=f"error: {tellable(error)}")
    conclusion = conclude(root, plan, outcomes)
    close_group(group, plan, conclusion)
    key = "grid-" + "".join(c if c.isalnum() else "-" for c in plan.name.lower())
    create_table_artifact(conclusion.rows, key=key, description=f"{plan.grid.title}; percent, over the seeds")
    if conclusion.failure:
        log.error("%s", tellable(conclusion.failure))
        return Failed(message=f"{'error: ' if conclusion.mistaken else ''}{tellable(conclusion.failure)}")
    return {"grid": plan.name, "cells": [outcome.piece.cell.name for outcome in outcomes]}


@flow(name="ablation", validate_parameters=True)
def ablation(
    seeds: Sequence[int] | None = None,
    rows: Sequence[str] | None = None,
    overrides: dict[str, Any] | None = None,
    name: str | None = None,
    parallel: int = 1,
) -> Any:
    """Table 1 of the paper: experiments/ablation.yaml. Arguments as of the flow `grid`."""
    return grid.fn("ablation", seeds, rows, overrides, name, parallel)


@flow(name="sensitivity", validate_parameters=True)
def sensitivity(
    seeds: Sequence[int] | None = None,
    rows: Sequence[str] | None = None,
    overrides: dict[str, Any] | None = None,
    name: str | None = None,
    parallel: int = 1,
) -> Any:
    """Figure 6 of the paper: experiments/sensitivity.yaml. Arguments as of the flow `grid`."""
    return grid.fn("sensitivity", seeds, rows, overrides, name, parallel)


def _run(
    root: Path,
    plan: Plan,
    group: "RunGroup | None",
    flow_run_id: str | None,
    report: Any,
    *,
    parallel: int,
    identical: bool,
) -> list[CellOutcome]:
    def run(planned: GridCell, stop: Event) -> CellEnd:
        return _cell_as_task(root, planned, stop, group, flow_run_id)

    try:
        cells = plan.to_run(identical=identical)
        return run_side_by_side(cells, run, parallel=parallel, on_end=report)
    except BaseException:
        if group is not None:
            group.finish("KILLED")
        raise


def _cell_as_task(
    root: Path, planned: GridCell, stop: Event, group: "RunGroup | None", flow_run_id: str | None
) -> CellEnd:
    title = planned.cell.title

    @task(name=title, task_run_name=title, cache_policy=NO_CACHE, persist_result=False)
    def run() -> Any:
        log = get_run_logger()
        options = RunOptions(
            on_line=lambda line: log.info("%s", tellable(line)),
            retries=flows.RETRIES,
            flow_run_id=flow_run_id,
            stop=stop,
        )
        try:
            return run_grid_cell(root, planned, group=group, validate=flows.check_params, options=options)
        except UserError as error:
            # Returned, not raised: a mistake needs its message and no traceback.
            return Failed(message=f"error: {tellable(error)}", data=error)
        except StageCancelledError as error:
            return Cancelled(message=tellable(error), data=error)

    state: State[Any] = run(return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
