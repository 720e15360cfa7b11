"""The Prefect flows over grids of experiments.

python -m pipelines.flows grid NAME [--seeds 0 1 2] [--rows ...] [--set KEY=VALUE ...] [--name NAME] [--parallel N]
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from pipelines.experiments.grid import GridCell, load_grid, make_plan
from pipelines.experiments.run import CellEnd, CellOutcome, ending, run_grid, run_grid_cell
from pipelines.orchestration.environment import project_root
from pipelines.orchestration.runs import RunOptions, Validate
from pipelines.orchestration.stage_process import StageCancelledError


@flow(name="grid", validate_parameters=True)
def grid(
    grid: str,
    seeds: Sequence[int] | None = None,
    rows: Sequence[str] | None = None,
    overrides: dict[str, Any] | None = None,
    name: str | None = None,
    parallel: int = 1,
    identical: bool = False,
    preset: str | None = None,
) -> Any:
    """Run the cells of a grid: each row with each seed, as a DVC experiment and a child of one MLflow run.

    A finished cell is not run again: its record in experiments/results/ holds what it was made of. A cell that
    fails is reported and the others go on; the flow then ends as failed. Started again, it runs only what is missing.

    Args:
        grid: a file of experiments/, without its `.yaml`.
        seeds: empty: the grid's own.
        rows: names of its rows; empty: all.
        overrides: single values of params.yaml for every cell; give a name with them.
        name: what the experiments' names begin with; empty: the grid's name.
        parallel: how many cells to train at a time; all share this machine's processors, memory and GPU.
        identical: whether rows that are identical by construction are run as well.
        preset: a file of presets/, without its `.yaml`, in place of the grid's.
    """
    mask_logs()
    root, log = project_root(), get_run_logger()

    def report(outcome: CellOutcome) -> None:
        log.log(logging.WARNING if outcome.error else logging.INFO, "%s", tellable(ending(outcome)))

    try:
        plan = make_plan(
            root,
            load_grid(root, grid),
            seeds=seeds or None,
            rows=rows or None,
            overrides=overrides,
            preset=preset or None,
            name=name or None,
            validate=flows.check_params,
        )
        conclusion = run_grid(
            root,
            plan,
            run=_as_task,
            parallel=parallel,
            identical=identical,
            validate=flows.check_params,
            options=RunOptions(retries=flows.RETRIES, flow_run_id=flow_run.id),
            on_end=report,
        )
    except UserError as error:
        log.error("error: %s", tellable(error))
        return Failed(message=f"error: {tellable(error)}")
    key = "grid-" + "".join(c if c.isalnum() else "-" for c in plan.name.lower())
    create_table_artifact(conclusion.rows, key=key, description=f"{plan.grid.title}; percent, over the seeds")
    for path in conclusion.written:
        log.info("written: %s", path)
    if conclusion.warning:
        log.warning("%s", conclusion.warning)
    if conclusion.failure:
        log.error("%s", tellable(conclusion.failure))
        return Failed(message=f"{'error: ' if conclusion.mistaken else ''}{tellable(conclusion.failure)}")
    return {"grid": plan.name, "cells": [cell.cell.name for cell in plan.to_run(identical=identical)]}


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


@flow(name="regdb", validate_parameters=True)
def regdb(
    splits: Sequence[int] | None = None,
    overrides: dict[str, Any] | None = None,
    name: str | None = None,
    parallel: int = 1,
    preset: str | None = None,
) -> Any:
    """RegDB's ten splits, a model for each, and their mean: experiments/regdb.yaml.

    Args:
        splits: numbers of the splits, 1 to 10; empty: all.
        overrides: as of the flow `grid`.
        name: as of the flow `grid`.
        parallel: as of the flow `grid`.
        preset: a file of presets/ whose data set is RegDB; empty: regdb.
    """
    rows = [f"split-{split}" for split in splits or ()]
    return grid.fn("regdb", None, rows, overrides, name, parallel, preset=preset)


def _as_task(root: Path, planned: GridCell, *, validate: Validate | None, options: RunOptions) -> CellEnd:
    title = planned.cell.title

    @task(name=title, task_run_name=title, cache_policy=NO_CACHE, persist_result=False)
    def run() -> Any:
        log = get_run_logger()
        own = replace(options, on_line=lambda line: log.info("%s", tellable(line)))
        try:
            return run_grid_cell(root, planned, validate=validate, options=own)
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
