"""The Prefect flow over RegDB's ten splits, and the same from the command line.

python -m pipelines.flows regdb [--splits 1 2 3] [--set KEY=VALUE ...] [--name NAME] [--parallel N] [--until STAGE]
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Event
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
from pipelines.orchestration.cells import Cell, run_cell
from pipelines.orchestration.runs import ExperimentResult, RunOptions
from pipelines.orchestration.side_by_side import run_side_by_side
from pipelines.orchestration.stage_process import StageCancelledError
from pipelines.regdb import PRESET, SplitOutcome, conclude, ending, split_cells
from pipelines.regdb_finished import SPLITS
from pipelines.settings import project_root


@flow(name="regdb", validate_parameters=True)
def regdb(
    preset: str = PRESET,
    splits: Sequence[int] = SPLITS,
    overrides: dict[str, Any] | None = None,
    until: str | None = None,
    name: str | None = None,
    parallel: int = 1,
) -> Any:
    """Train and evaluate a model for each split of RegDB, each on its own split alone, and average the results.

    Every split is a DVC experiment, `<name>-split<number>`. A split that fails is reported and the others go on; the
    flow then ends as failed. Started again, it runs only what is missing. The means are an artifact, and the files
    results/regdb/<name>.json and .md.

    Args:
        preset: a file of presets/, without its `.yaml`, whose data set is RegDB.
        splits: numbers of the splits, 1 to 10.
        overrides: single values of params.yaml by dotted key, for all splits.
        until: the last stage to run; empty: all of dvc.yaml.
        name: what the experiments' names begin with; empty: made of the preset and the overrides.
        parallel: how many splits to train at a time; all share this machine's processors, memory and GPU.
    """
    mask_logs()
    root, flow_run_id, log = project_root(), flow_run.id, get_run_logger()

    def report(outcome: SplitOutcome) -> None:
        log.log(logging.WARNING if outcome.error else logging.INFO, "%s", tellable(ending(outcome)))

    try:
        cells = split_cells(
            root,
            preset=preset,
            splits=splits,
            overrides=overrides,
            until=until or None,
            name=name or None,
            validate=flows.check_params,
        )
        outcomes = run_side_by_side(
            cells,
            lambda cell, stop: _cell_as_task(root, cell, stop, flow_run_id),
            parallel=parallel,
            on_end=report,
        )
        conclusion = conclude(root, outcomes)
    except UserError as error:
        log.error("error: %s", tellable(error))
        return Failed(message=f"error: {tellable(error)}")
    create_table_artifact(conclusion.rows, key="regdb", description="RegDB, percent, by split")
    for path in conclusion.written:
        log.info("written: %s", path)
    if conclusion.failure:
        log.error("%s", tellable(conclusion.failure))
        return Failed(message=f"{'error: ' if conclusion.mistaken else ''}{tellable(conclusion.failure)}")
    return {"splits": [cell.name for cell in cells], "written": [str(path) for path in conclusion.written]}


def _cell_as_task(root: Path, cell: Cell, stop: Event, flow_run_id: str | None) -> ExperimentResult:
    @task(name=cell.title, task_run_name=cell.title, cache_policy=NO_CACHE, persist_result=False)
    def run() -> Any:
        log = get_run_logger()
        options = RunOptions(
            on_line=lambda line: log.info("%s", tellable(line)),
            retries=flows.RETRIES,
            flow_run_id=flow_run_id,
            stop=stop,
        )
        try:
            return run_cell(root, cell, validate=flows.check_params, options=options)
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
