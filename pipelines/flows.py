"""The Prefect flows over the DVC pipeline, and the same runs from the command line.

    python -m pipelines.flows train [--preset NAME] [--set train.epochs=3 ...] [--until STAGE] [--name NAME]
    python -m pipelines.flows evaluate [--set evaluate.trials=5 ...] [--name NAME]
    python -m pipelines.flows regdb ...: all ten splits of RegDB, see pipelines/regdb_flow.py
    python -m pipelines.flows grid NAME ...: a grid of experiments/, see pipelines/grid_flow.py

Without a preset and overrides a run works in this working tree, as `dvc repro` does. With them it becomes a DVC
experiment (`dvc exp show`) and leaves the working tree alone. The flows add to `pipelines.orchestration` what Prefect
is for: a task per stage with live logs and retries, artifacts, cancelling, queues and schedules.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed

from msclnet.errors import UserError
from msclnet.tracking.masking import mask_logs
from pipelines.console import tellable
from pipelines.orchestration.report import inline_picture, metric_rows, stage_rows
from pipelines.orchestration.runs import RunOptions, RunResult, run_experiment, run_workspace
from pipelines.orchestration.stage_process import StageStatus
from pipelines.settings import project_root

RETRIES = 2
NAMELESS = "error: `name` names an experiment; give a preset or overrides with it, or leave it out"
EVALUATION = "evaluate"  # the stage that the flow `evaluate` begins with


@flow(name="train", validate_parameters=True)
def train(
    preset: str | None = None,
    overrides: dict[str, Any] | None = None,
    until: str | None = None,
    name: str | None = None,
) -> Any:
    """Run the pipeline up to a stage.

    Args:
        preset: a file of presets/, without its `.yaml`, in the place of params.yaml.
        overrides: single values of params.yaml by dotted key, for example {"train.epochs": 3}.
        until: the last stage to run; empty: all of dvc.yaml.
        name: the experiment's name; empty: made of the preset and the overrides.
    """
    if name and not (preset or overrides):
        return Failed(message=NAMELESS)
    with _journal() as journal:
        return journal.end(
            lambda root, options: (
                run_experiment(
                    root,
                    preset=preset or None,
                    overrides=overrides,
                    until=until or None,
                    name=name or None,
                    validate=check_params,
                    options=options,
                )
                if preset or overrides
                else run_workspace(root, until=until or None, validate=check_params, options=options)
            )
        )


@flow(name="evaluate", validate_parameters=True)
def evaluate(overrides: dict[str, Any] | None = None, name: str | None = None) -> Any:
    """Evaluate the trained model anew and draw its figures.

    Args:
        overrides: values of params.yaml, usually of `evaluate` and `visualize`; what they leave as it was comes
            from the cache.
        name: the experiment's name; empty: made of the overrides.
    """
    if name and not overrides:
        return Failed(message=NAMELESS)
    with _journal() as journal:
        return journal.end(
            lambda root, options: (
                run_experiment(
                    root, overrides=overrides, name=name or None, validate=check_params, options=options
                )
                if overrides
                else run_workspace(root, since=EVALUATION, validate=check_params, options=options)
            )
        )


def check_params(params: Path) -> object:
    """Validate a whole params.yaml; raises UserError."""
    from pipelines.stages.config import load_params

    return load_params(params)


class _Journal:
    """Keeps what the stages of one flow run came to, and turns it into artifacts and the flow's end state."""

    def __init__(self) -> None:
        self.stages: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    def end(self, run: Callable[[Path, RunOptions], RunResult]) -> Any:
        """Run the stages; a mistake of the user ends the flow as failed with its message, without a traceback."""
        flow_run_id = flow_run.id
        options = RunOptions(
            on_line=_log, each_stage=self._each_stage, flow_run_id=flow_run_id, seconds=self.seconds
        )
        try:
            result = run(project_root(), options)
        except UserError as error:
            get_run_logger().error("error: %s", tellable(error))
            return Failed(message=f"error: {tellable(error)}")
        self.stages = dict(result.stages)
        self._publish(result)
        return {"stages": result.stages, "experiment": getattr(result, "name", None)}

    def _each_stage(self, stage: str, execute: Callable[[], StageStatus]) -> StageStatus:
        self.stages[stage] = "failed"
        self.stages[stage] = status = _stage_as_task(stage, execute)
        return status

    def _publish(self, result: RunResult) -> None:
        if rows := metric_rows(result.metrics):
            create_table_artifact(rows, key="metrics", description="Metrics of the evaluation")
        for file_name, file in result.figures.items():
            picture = inline_picture(file_name, file)
            if picture is not None:
                key = "figure-" + "".join(c if c.isalnum() else "-" for c in Path(file_name).stem.lower())
                create_markdown_artifact(picture, key=key, description=file_name)


@contextmanager
def _journal() -> Iterator[_Journal]:
    journal = _Journal()
    mask_logs()  # before a library puts an address into a record, which Prefect would keep
    try:
        yield journal
    finally:
        # Also after a failure: what was done, and where it stopped. Not while a cancelled run is ending.
        if journal.stages:
            rows = stage_rows(journal.stages, journal.seconds)
            create_table_artifact(rows, key="stages", description="What each stage did")


def _stage_as_task(stage: str, execute: Callable[[], StageStatus]) -> StageStatus:
    @task(
        name=stage,
        task_run_name=stage,
        retries=RETRIES,
        retry_condition_fn=_may_help,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run() -> Any:
        try:
            return execute()
        except UserError as error:
            # Returned, not raised: a mistake needs its message and no traceback.
            return Failed(message=f"error: {tellable(error)}", data=error)

    state: State[Any] = run(return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _may_help(task: object, task_run: object, state: State[Any]) -> bool:
    """Whether trying again may help: after a crash, for training resumes; not after a mistake of the user."""
    return not (state.message or "").startswith("error: ")


def _log(line: str) -> None:
    # Within a task this is the task's logger, so that each stage has its own lines.
    get_run_logger().info("%s", tellable(line))


if __name__ == "__main__":
    from pipelines.orchestration.command import main

    raise SystemExit(main())
