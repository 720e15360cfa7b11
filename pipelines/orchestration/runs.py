"""Runs the pipeline: in the user's tree, or in a clone of it as a DVC experiment; one, or several at a time."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Generic, TypeVar

from msclnet.errors import UserError
from pipelines.orchestration import experiments, stage_process, workspace
from pipelines.orchestration.dvc_files import (
    Stage,
    figures,
    output_files,
    read_metrics,
    read_stages,
    stages_between,
)
from pipelines.orchestration.experiments import Experiment, readable_name, write_params
from pipelines.orchestration.stage_process import Log, StageFailedError, StageStatus, run_dvc, sigterm_raises
from pipelines.orchestration.workspace import Workspace
from pipelines.settings import stage_environment
from pipelines.stages.paths import DIVERGED, HISTORY, RUN

RETRIES = 2  # of a crashed stage


@dataclass(frozen=True)
class RunResult:
    """What a run has produced.

    Attributes:
        stages: status of each stage, in order.
        seconds: the time that each stage took.
        metrics: the evaluation's metrics, empty where the run ended before it.
        figures: file name -> PNG file in the DVC cache.
        name: of the experiment, for `dvc exp show / apply / branch / remove`; empty for a run in the user's tree.
        rev: the experiment's commit.
    """

    stages: dict[str, StageStatus]
    seconds: dict[str, float]
    metrics: dict[str, Any]
    figures: dict[str, Path]
    name: str = ""
    rev: str = ""


class DivergedError(UserError):
    """The training diverged.

    Attributes:
        report: what the stage wrote: reason, epoch, step, and the last steps.
        history: the text of its history.csv, empty where no epoch was whole.
    """

    def __init__(self, message: str, report: dict[str, Any], history: str) -> None:
        super().__init__(message)
        self.report, self.history = report, history


RunStage = Callable[..., StageStatus]  # stage_process.run_stage, or the same as a Prefect task


def run_with_retries(path: Path, stage: str, /, **how: Any) -> StageStatus:
    """`run_stage` that starts a crashed stage again, `RETRIES` times."""
    return stage_process.run_stage(path, stage, retries=RETRIES, **how)


def run_pipeline(
    root: Path, experiment: Experiment, *, first_stage: str | None = None, **how: Any
) -> RunResult:
    """Run the pipeline in the user's tree, or as an experiment where a preset or overrides are given.

    `first_stage` counts in the user's tree; an experiment takes what is not changed from the cache.
    """
    if experiment.preset or experiment.overrides:
        return run_experiment(root, experiment, **how)
    if experiment.name:
        remedy = "give a preset or overrides as well, or leave it out"
        raise UserError(f"name {experiment.name!r}: only experiments have names; {remedy}")
    return run_workspace(root, first_stage=first_stage, last_stage=experiment.until, **how)


def run_workspace(
    root: Path,
    *,
    first_stage: str | None = None,
    last_stage: str | None = None,
    environment: Mapping[str, str] | None = None,
    run_stage: RunStage = run_with_retries,
    log: Log = print,
    stop: Event | None = None,
) -> RunResult:
    """Run the stages from the first to the last in the user's working tree, as `dvc repro` would.

    Other arguments and errors as of `run_experiment`.
    """
    root = root.resolve()
    selected = stages_between(read_stages(root), first_stage=first_stage, last_stage=last_stage)
    workspace.check_cache(root)
    lock = root / workspace.FLOWS / "workspace.lock"
    waiting = "another run works in this working tree: waiting for its end"
    with workspace.held(lock, waiting=waiting, log=log, stop=stop):
        experiments.load_params(root / "params.yaml")
        variables = stage_environment(root, workspace=root, extra=environment)
        statuses, seconds = _run_stages(root, selected, variables, run_stage, log, stop)
        text = (root / "dvc.lock").read_bytes()
    return _result(root, text, statuses, seconds)


def run_experiment(
    root: Path,
    experiment: Experiment,
    *,
    replace: bool = False,
    environment: Mapping[str, str] | None = None,
    run_stage: RunStage = run_with_retries,
    log: Log = print,
    stop: Event | None = None,
) -> RunResult:
    """Run the pipeline with other parameters, without touching the user's working tree.

    The run starts from the user's present files, committed or not, and ends as a DVC experiment of the present commit.
    A stage whose inputs are those of a former run comes from DVC's cache. A second run with the same inputs at the
    same time waits for the first.

    Raises:
        UserError: a mistake in the arguments, the parameters, or reported by a stage.
        DivergedError: the training diverged.
        StageFailedError: a stage crashed, again and again; nothing is saved.
        StageCancelledError: `stop` was set.
    """
    root = root.resolve()
    if experiment.name is not None:
        workspace.check_name(root, experiment.name)
    with workspace.isolated(root) as copy:
        write_params(copy.path, experiment, copy.path / "params.yaml")
        stages = read_stages(copy.path)
        selected = stages_between(stages, last_stage=experiment.until)
        outputs = [path for stage in stages for path in stage.outputs]
        inputs = copy.inputs(outputs=outputs)
        name = experiment.name or readable_name(experiment, inputs)
        with (
            _locked(root, f"inputs-{inputs}", "has the same inputs", log, stop),
            _locked(root, f"name-{name}", f"is called {name}, too", log, stop),
        ):
            former = workspace.experiment_commit(root, copy.base, name)
            if former and copy.inputs(former, outputs=outputs) != inputs:
                if not replace:
                    raise UserError(
                        f"an experiment {name!r} with other inputs exists: choose another name, "
                        f"or remove it with `dvc exp remove {name}`"
                    )
                log(f"files have changed since {name} was made: commit {former[:10]} is replaced")
            (copy.path / DIVERGED).unlink(missing_ok=True)
            extra = {**copy.environment, "MSCLNET_EXPERIMENT": name, **(environment or {})}
            variables = stage_environment(root, workspace=copy.path, extra=extra)
            try:
                statuses, seconds = _run_stages(copy.path, selected, variables, run_stage, log, stop)
            except UserError as error:
                raise _diverged(copy.path, error) or error from None
            _save(copy, name, experiment.until, variables, stop)
            rev = copy.publish(name)
            text = (copy.path / "dvc.lock").read_bytes()
    log(f"saved as experiment {name}: dvc exp show, dvc exp apply {name}")
    return _result(root, text, statuses, seconds, name=name, rev=rev)


Piece = TypeVar("Piece")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Piece, Result]):
    """How one piece of work ended: with a result, or with an error.

    Attributes:
        piece: what was to be done.
        result: None after an error.
        error: why there is no result.
        seconds: the time it took.
    """

    piece: Piece
    result: Result | None
    error: BaseException | None
    seconds: float


def run_parallel(
    pieces: Sequence[Piece],
    run: Callable[[Piece, Event], Result],
    *,
    parallel: int = 1,
    on_end: Callable[[Outcome[Piece, Result]], None] | None = None,
) -> list[Outcome[Piece, Result]]:
    """Run a function on each piece, in threads that see this thread's context variables.

    A failing piece is noted and the others go on. Whatever ends the call early (Ctrl-C, SIGTERM, a cancelled flow run)
    sets the event that every call has been given, and waits for those under way to end; no further piece is begun.

    Returns:
        Outcomes in the order of the pieces.

    Raises:
        UserError: `parallel` is less than 1.
    """
    if parallel < 1:
        raise UserError(f"parallel is {parallel}: give the number of runs at a time, 1 or more")
    stop = Event()

    def attempt(piece: Piece) -> Outcome[Piece, Result]:
        started = time.monotonic()
        try:
            result, error = run(piece, stop), None
        except BaseException as raised:
            result, error = None, raised
        return Outcome(piece=piece, result=result, error=error, seconds=time.monotonic() - started)

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


def _run_stages(
    path: Path,
    stages: Sequence[Stage],
    environment: Mapping[str, str],
    run_stage: RunStage,
    log: Log,
    stop: Event | None,
) -> tuple[dict[str, StageStatus], dict[str, float]]:
    statuses, seconds = {}, {}
    for stage in stages:
        started = time.monotonic()
        statuses[stage.name] = run_stage(path, stage.name, environment=environment, log=log, stop=stop)
        seconds[stage.name] = time.monotonic() - started
    return statuses, seconds


def _save(
    copy: Workspace, name: str, until: str | None, environment: Mapping[str, str], stop: Event | None
) -> None:
    """Have DVC save the finished stages as an experiment of the clone: it finds them unchanged and runs none.

    The commit's message names the training's MLflow run.
    """
    copy.prepare_to_save()
    message = f"Experiment {name}"
    if (copy.path / RUN).is_file():
        message += f"\n\nMLflow-run: {json.loads((copy.path / RUN).read_bytes())['run_id']}"
    command = ["exp", "run", "--name", name, "--message", message, *([until] if until else [])]
    code, tail = run_dvc(copy.path, *command, environment=environment, log=lambda line: None, stop=stop)
    if code:
        last = "\n".join(f"    {line}" for line in tail if line.strip())
        raise StageFailedError(f"dvc exp run failed to save the experiment {name}; its last lines:\n{last}")


def _locked(root: Path, name: str, reason: str, log: Log, stop: Event | None) -> Any:
    waiting = f"another run {reason}: waiting for its end"
    return workspace.held(root / workspace.FLOWS / "locks" / name, waiting=waiting, log=log, stop=stop)


def _diverged(path: Path, error: UserError) -> DivergedError | None:
    try:
        report = json.loads((path / DIVERGED).read_bytes())
    except FileNotFoundError:
        return None
    history = path / HISTORY
    return DivergedError(str(error), report, history.read_text() if history.is_file() else "")


def _result(
    root: Path,
    lock: bytes,
    statuses: dict[str, StageStatus],
    seconds: dict[str, float],
    *,
    name: str = "",
    rev: str = "",
) -> RunResult:
    files = output_files(lock, stages=list(statuses), cache=workspace.cache_folder(root)) or {}
    return RunResult(
        stages=statuses,
        seconds=seconds,
        metrics=read_metrics(files),
        figures=figures(files),
        name=name,
        rev=rev,
    )
