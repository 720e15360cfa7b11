"""The Prefect flows: train, evaluate, gallery, watch, and the grids ablation, sensitivity, regdb and any other.

They add to `pipelines.orchestration` and `pipelines.experiments` what Prefect is for: a task per stage or cell with
live logs and retries, artifacts, cancelling, queues and schedules.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun, FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Failed

from msclnet.errors import UserError
from pipelines.console import printable
from pipelines.experiments.grid import load_grid
from pipelines.experiments.plan import GridCell, make_plan
from pipelines.experiments.run import CellEnd, CellOutcome, ending, run_grid, run_grid_cell
from pipelines.orchestration.experiments import Experiment
from pipelines.orchestration.runs import RETRIES, RunResult, run_pipeline
from pipelines.orchestration.stage_process import StageCancelledError, StageStatus, run_stage
from pipelines.orchestration.summary import inline_picture, metric_rows
from pipelines.release.promotion import approve
from pipelines.settings import project_root
from pipelines.stages.paths import PROMOTION

APPROVAL_SECONDS = 24 * 3600  # how long a flow waits for a person

Text = str | None
Values = dict[str, Any] | None
Numbers = Sequence[int] | None
Names = Sequence[str] | None


def mistakes_reported(work: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose user's mistakes end the flow with their message, without a traceback."""

    @wraps(work)
    def reported(*arguments: Any, **named: Any) -> Any:
        try:
            return work(*arguments, **named)
        except UserError as error:
            return _failed(f"error: {printable(error)}")

    return reported


@flow(name="train", validate_parameters=True)
def train(preset: Text = None, overrides: Values = None, until: Text = None, name: Text = None) -> Any:
    """Run the pipeline up to a stage.

    Args:
        preset: a file of presets/, without its `.yaml`, in the place of params.yaml.
        overrides: single values of params.yaml by dotted key, for example {"train.epochs": 3}.
        until: the last stage to run; empty: all of dvc.yaml.
        name: the experiment's name; empty: made of the preset and the overrides.
    """
    return _run_stages(Experiment(overrides or {}, preset or None, until or None, name or None))


@flow(name="evaluate", validate_parameters=True)
def evaluate(overrides: Values = None, name: Text = None) -> Any:
    """Evaluate the trained model again and draw its figures.

    Args:
        overrides: values of params.yaml, usually of `evaluate` and `visualize`; what they do not change comes from the
            cache.
        name: the experiment's name; empty: made of the overrides.
    """
    return _run_stages(Experiment(overrides or {}, name=name or None), first_stage="evaluate")


@flow(name="grid", validate_parameters=True)
def grid(
    grid: str,
    seeds: Numbers = None,
    rows: Names = None,
    overrides: Values = None,
    name: Text = None,
    parallel: int = 1,
    identical: bool = False,
    preset: Text = None,
) -> Any:
    """Run the cells of a grid: each row with each seed, as a DVC experiment and a child of one MLflow run.

    A finished cell is never run again: its record in experiments/results/ says what it was made of. A cell that fails
    is reported and the others go on; the flow then ends as failed. Started again, it runs only what is missing.

    Args:
        grid: a file of experiments/, without its `.yaml`.
        seeds: empty: the grid's own.
        rows: names of its rows; empty: all.
        overrides: single values of params.yaml for every cell; give a name with them.
        name: what the experiments' names begin with; empty: the grid's name.
        parallel: how many cells to train at a time; all share this machine's processors, memory and GPU.
        identical: whether rows that are identical by construction are run as well.
        preset: a file of presets/, without its `.yaml`, in the place of the grid's.
    """
    chosen = {"seeds": seeds, "rows": rows, "overrides": overrides, "name": name, "preset": preset}
    return _run_cells(grid, parallel=parallel, identical=identical, **chosen)


@flow(name="ablation", validate_parameters=True)
def ablation(
    seeds: Numbers = None, rows: Names = None, overrides: Values = None, name: Text = None, parallel: int = 1
) -> Any:
    """Table 1 of the paper: experiments/ablation.yaml. Arguments as of the flow `grid`."""
    chosen = {"seeds": seeds, "rows": rows, "overrides": overrides, "name": name}
    return _run_cells("ablation", parallel=parallel, **chosen)


@flow(name="sensitivity", validate_parameters=True)
def sensitivity(
    seeds: Numbers = None, rows: Names = None, overrides: Values = None, name: Text = None, parallel: int = 1
) -> Any:
    """Figure 6 of the paper: experiments/sensitivity.yaml. Arguments as of the flow `grid`."""
    chosen = {"seeds": seeds, "rows": rows, "overrides": overrides, "name": name}
    return _run_cells("sensitivity", parallel=parallel, **chosen)


@flow(name="regdb", validate_parameters=True)
def regdb(
    splits: Numbers = None,
    seeds: Numbers = None,
    overrides: Values = None,
    name: Text = None,
    parallel: int = 1,
    preset: Text = None,
) -> Any:
    """RegDB's ten splits and their mean: experiments/regdb.yaml, a row for each split.

    Args:
        splits: numbers of the splits, 1 to 10; empty: all.
        seeds: as of the flow `grid`, and so are the others.
        overrides: single values of params.yaml for every split.
        name: what the experiments' names begin with.
        parallel: how many splits to train at a time.
        preset: a file of presets/ whose data set is RegDB; empty: regdb.
    """
    rows = [f"split-{split}" for split in splits or ()]
    chosen = {"seeds": seeds, "rows": rows, "overrides": overrides, "name": name, "preset": preset}
    return _run_cells("regdb", parallel=parallel, **chosen)


@flow(name="gallery", validate_parameters=True)
@mistakes_reported
def gallery(
    name: str, folder: Text = None, pattern: Text = None, table: Text = None, model: Text = None
) -> Any:
    """Add what is new in a folder to a gallery, or embed the gallery again with the registry's champion.

    Args:
        name: the gallery's name, folder or address.
        folder: whose images are added; empty: the gallery is rebuilt.
        pattern: what the files' names say, such as {camera}_{time:%Y%m%dT%H%M%S}_*.jpg.
        table: a CSV file with the columns path, camera, time, modality and any others.
        model: address of a model; empty: of an addition the gallery's own, of a rebuild the champion.
    """
    # Half of the time in which another flow starts.
    from pipelines.gallery.work import add, rebuild_gallery

    counts: dict[str, Any]
    if folder:
        described = Path(table) if table else None
        added = add(name, Path(folder), pattern=pattern or None, table=described, model=model or None)
        for each in added.refused:
            get_run_logger().warning("refused: %s", printable(f"{each.path}: {each.reason}"))
        counts = {kind: getattr(added, kind) for kind in ("added", "described", "unchanged")}
        counts["refused"] = len(added.refused)
    else:
        rebuilt = rebuild_gallery(name, model=model or None)
        counts = {"images": rebuilt.images, "from crops": rebuilt.from_crops, **vars(rebuilt.change)}
    # JSON has no NaN, which stands where nothing was asked.
    rows = [{"what": what, "value": None if value != value else value} for what, value in counts.items()]
    create_table_artifact(rows, key=f"gallery-{_key(name)}", description=f"The gallery {name}")
    return {row["what"]: row["value"] for row in rows}


@flow(name="watch", validate_parameters=True)
@mistakes_reported
def watch_gallery(name: str, newest: int = 100) -> Any:
    """Find cameras whose newest images differ from those at a gallery's start; then the run fails.

    Args:
        name: the gallery's name, folder or address.
        newest: images of each camera to compare with as many of the start.
    """
    from pipelines.gallery.watch import watch  # as above

    found = watch(name, newest=newest)
    create_table_artifact(
        [asdict(change) for change in found.changes],
        key=f"watch-{_key(name)}",
        description=f"The newest images of the gallery {name}",
    )
    if found.fires:
        fired = (f"{change.camera} {change.measure}" for change in found.changes if change.fires)
        return _failed(f"changed: {', '.join(fired)}")
    return None


def run_on_server(address: str, name: str, parameters: dict[str, Any]) -> State[Any]:
    """Run a flow of this file in this process, recorded by the Prefect server whose API has this address."""
    with temporary_settings({PREFECT_API_URL: address}):
        return globals()[name](**parameters, return_state=True)


@mistakes_reported
def _run_stages(experiment: Experiment, first_stage: str | None = None) -> Any:
    rows: dict[str, dict[str, Any]] = {}

    def stage_as_task(path: Path, stage: str, /, **how: Any) -> StageStatus:
        started = time.monotonic()
        rows[stage] = {"stage": stage, "status": "failed"}
        try:
            rows[stage]["status"] = _as_task(stage, lambda: run_stage(path, stage, **how), retries=RETRIES)
        finally:
            rows[stage]["seconds"] = round(time.monotonic() - started, 1)
        return rows[stage]["status"]

    try:
        result = run_pipeline(
            project_root(),
            experiment,
            first_stage=first_stage,
            environment={"MSCLNET_FLOW_RUN_ID": str(flow_run.id)},
            run_stage=stage_as_task,
            log=_log,
        )
    finally:
        if rows:  # also after a failure: what was done, and where it stopped
            create_table_artifact([*rows.values()], key="stages", description="What each stage did")
    _show(result)
    ask_for_approval(result.json(PROMOTION, {}))
    return {"stages": result.stages, "experiment": result.name or None}


class Approval(RunInput):
    """A person's answer about a candidate that the rules let through."""

    approve: bool = False


def ask_for_approval(decision: Mapping[str, Any]) -> None:
    """Where the gate waits for a person, pause until one answers in Prefect, and promote the model if he agrees."""
    if decision.get("status") != "awaits approval":
        return
    asked = Approval.with_initial_data(description=f"{decision['reason']}. Shall it become the champion?")
    try:
        answer = pause_flow_run(
            wait_for_input=asked, timeout=APPROVAL_SECONDS, poll_interval=5, key="approval"
        )
    except FlowPauseTimeout:
        _log("nobody has answered: the model stays a candidate; `msclnet promote` makes it the champion")
        return
    if answer.approve:
        _log(approve(decision, root=project_root()))
    else:
        _log("not approved: the model stays a candidate")


def _show(result: RunResult) -> None:
    if decision := result.json(PROMOTION, {}):
        description = f"{decision['status']}: {decision['reason']}"
        create_table_artifact(decision["rules"], key="promotion", description=description)
    if rows := metric_rows(result.metrics):
        create_table_artifact(rows, key="metrics", description="Metrics of the evaluation")
    for file_name, file in result.figures.items():
        if picture := inline_picture(file_name, file):
            key = f"figure-{_key(Path(file_name).stem)}"
            create_markdown_artifact(picture, key=key, description=file_name)


@mistakes_reported
def _run_cells(grid: str, *, parallel: int, identical: bool = False, **chosen: Any) -> Any:
    """Run a grid's cells as tasks; of what is chosen (see `make_plan`) an empty value counts as not given."""
    logger = get_run_logger()

    def cell_as_task(root: Path, cell: GridCell, **how: Any) -> CellEnd:
        return _as_task(cell.cell.title, lambda: run_grid_cell(root, cell, **how))

    def report(outcome: CellOutcome) -> None:
        logger.log(logging.WARNING if outcome.error else logging.INFO, "%s", printable(ending(outcome)))

    root = project_root()
    given = {key: value or None for key, value in chosen.items()}
    plan = make_plan(root, load_grid(root, grid), **given)
    conclusion = run_grid(
        root,
        plan,
        run=cell_as_task,
        parallel=parallel,
        identical=identical,
        environment={"MSCLNET_FLOW_RUN_ID": str(flow_run.id)},
        log=_log,
        on_end=report,
    )
    description = f"{plan.grid.title}; percent, over the seeds"
    create_table_artifact(conclusion.rows, key=f"grid-{_key(plan.name)}", description=description)
    for path in conclusion.written:
        logger.info("written: %s", path)
    if conclusion.warning:
        logger.warning("%s", conclusion.warning)
    if conclusion.failure:
        return _failed(f"{'error: ' if conclusion.repairable else ''}{printable(conclusion.failure)}")
    return {"grid": plan.name, "rows": conclusion.rows}


def _as_task(name: str, work: Callable[[], Any], *, retries: int = 0) -> Any:
    """Run `work` as a task; it is tried again after a crash, for training resumes, but not after a user's mistake.

    The retries are the task's: Prefect drops those of a flow whose deployment has a concurrency limit.
    """

    @task(
        name=name,
        task_run_name=name,
        retries=retries,
        retry_condition_fn=_may_help,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run() -> Any:
        try:
            return work()
        except UserError as error:
            # Returned, not raised: a mistake needs its message and no traceback.
            return Failed(message=f"error: {printable(error)}", data=error)
        except StageCancelledError as error:
            return Cancelled(message=printable(error), data=error)

    state: State[Any] = run(return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _may_help(task: object, task_run: object, state: State[Any]) -> bool:
    return not (state.message or "").startswith("error: ")


def _failed(message: str) -> State[Any]:
    """The flow's end after a user's mistake or a failed cell: its message, once, without a traceback."""
    get_run_logger().error("%s", message)
    logging.getLogger("prefect.flow_runs").addFilter(_is_no_repetition)
    return Failed(message=message)


def _is_no_repetition(record: logging.LogRecord) -> bool:
    """False for Prefect's own report of a failed run: a traceback through Prefect, and the message once more."""
    return not isinstance(sys.exc_info()[1], FailedRun)


def _log(line: str) -> None:
    # Within a task this is the task's logger, so that each stage has its own lines.
    get_run_logger().info("%s", printable(line))


def _key(name: str) -> str:
    """A name as the key of an artifact."""
    return "".join(c if c.isalnum() else "-" for c in name.lower())
