"""Runs the pipeline: in the user's tree, or in a clone of it as a DVC experiment."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from pathlib import Path
from threading import Event
from typing import Any

from msclnet.errors import UserError
from pipelines.orchestration import experiments, stage_process, workspace
from pipelines.orchestration.dvc_files import Stage, output_files, read_stages, stages_between
from pipelines.orchestration.experiments import Experiment, readable_name, write_params
from pipelines.orchestration.stage_process import Log, StageFailedError, StageStatus, run_dvc
from pipelines.settings import stage_environment
from pipelines.stages import paths

RETRIES = 2  # of a crashed stage


@dataclass(frozen=True)
class RunResult:
    """What a run has produced."""

    stages: dict[str, StageStatus]  # in order
    seconds: dict[str, float]  # that each stage took
    lock: str  # the text of dvc.lock after the run
    files: dict[str, Path]  # the stages' outputs: path in the project -> file in the DVC cache
    name: str = ""  # of the experiment; empty for a run in the user's tree
    rev: str = ""  # the experiment's commit

    def json(self, path: Path, default: Any) -> Any:
        """The content of one of the outputs; the default where the run ended before it."""
        file = self.files.get(str(path))
        return default if file is None else json.loads(file.read_bytes())

    @property
    def metrics(self) -> dict[str, Any]:
        """The evaluation's metrics, empty where the run ended before it."""
        return self.json(paths.METRICS, {})

    @property
    def figures(self) -> dict[str, Path]:
        """File name -> PNG file in the DVC cache."""
        places = ((Path(path), file) for path, file in sorted(self.files.items()))
        return {path.name: file for path, file in places if path.match(f"{paths.FIGURES}/*.png")}


class DivergedError(UserError):
    """The training diverged: what the stage wrote about it, and the text of its history.csv, which may be empty."""

    def __init__(self, message: str, report: dict[str, Any], history: str) -> None:
        super().__init__(message)
        self.report, self.history = report, history


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
    log: Log = print,
    stop: Event | None = None,
    **how: Any,
) -> RunResult:
    """Run stages in the user's working tree, as `dvc repro` would; arguments and errors as of `run_experiment`."""
    root = root.resolve()
    selected = stages_between(read_stages(root), first_stage=first_stage, last_stage=last_stage)
    workspace.check_cache(root)
    lock = root / workspace.FLOWS / "workspace.lock"
    waiting = "another run works in this working tree: waiting for its end"
    with workspace.held(lock, waiting=waiting, log=log, stop=stop):
        experiments.load_params(root / "params.yaml")
        return _run_stages(root, root, selected, log=log, stop=stop, **how)


def run_experiment(
    root: Path,
    experiment: Experiment,
    *,
    replace: bool = False,
    log: Log = print,
    stop: Event | None = None,
    **how: Any,
) -> RunResult:
    """Run the pipeline with other parameters, without touching the user's working tree.

    The run starts from the user's present files, committed or not, and ends as a DVC experiment of the present commit.
    A stage whose inputs are those of a former run comes from DVC's cache. A second run with the same inputs at the
    same time waits for the first.

    Args:
        root: the project.
        experiment: what to run.
        replace: whether an experiment of this name with other inputs is replaced.
        log: receives each line of output.
        stop: set by another thread to end the run.
        how: `environment`, further variables for the stages, and `run_stage`, in place of `run_with_retries`.

    Raises:
        UserError: a mistake of the user, DivergedError among them.
        StageFailedError: a stage crashed, again and again; nothing is saved.
        StageCancelledError: `stop` was set.
    """
    root = root.resolve()
    if experiment.name is not None:
        workspace.check_name(root, experiment.name)

    def locked(name: str, reason: str) -> Any:
        waiting = f"another run {reason}: waiting for its end"
        return workspace.held(root / workspace.FLOWS / "locks" / name, waiting=waiting, log=log, stop=stop)

    with workspace.isolated(root) as copy:
        write_params(copy.path, experiment, copy.path / "params.yaml")
        stages = read_stages(copy.path)
        selected = stages_between(stages, last_stage=experiment.until)
        outputs = [path for stage in stages for path in stage.outputs]
        inputs = copy.inputs(outputs=outputs)
        name = experiment.name or readable_name(experiment, inputs)
        with (
            locked(f"inputs-{inputs}", "has the same inputs"),
            locked(f"name-{name}", f"is called {name}, too"),
        ):
            former = workspace.experiment_commit(root, copy.base, name)
            if former and copy.inputs(former, outputs=outputs) != inputs:
                if not replace:
                    raise UserError(
                        f"an experiment {name!r} with other inputs exists: choose another name, "
                        f"or remove it with `dvc exp remove {name}`"
                    )
                log(f"files have changed since {name} was made: commit {former[:10]} is replaced")
            diverged, history = copy.path / paths.DIVERGED, copy.path / paths.HISTORY
            diverged.unlink(missing_ok=True)
            try:
                done = _run_stages(root, copy.path, selected, log=log, stop=stop, experiment=name, **how)
            except UserError as error:
                if not diverged.is_file():
                    raise
                text = history.read_text() if history.is_file() else ""
                raise DivergedError(str(error), json.loads(diverged.read_bytes()), text) from None
            # DVC saves the finished stages as an experiment of the clone: it finds them unchanged and runs none.
            copy.prepare_to_save()
            message = f"Experiment {name}"
            if (copy.path / paths.RUN).is_file():
                message += f"\n\nMLflow-run: {json.loads((copy.path / paths.RUN).read_bytes())['run_id']}"
            command = ["exp", "run", "--name", name, "--message", message]
            command += [experiment.until] if experiment.until else []
            variables = stage_environment(root, workspace=copy.path)
            code, tail = run_dvc(copy.path, *command, environment=variables, log=lambda line: None, stop=stop)
            if code:
                last = "\n".join(f"    {line}" for line in tail)
                raise StageFailedError(f"dvc exp run failed to save {name}; its last lines:\n{last}")
            rev = copy.publish(name)
    log(f"saved as experiment {name}: dvc exp show, dvc exp apply {name}")
    return replace_fields(done, name=name, rev=rev)


def _run_stages(
    root: Path,
    path: Path,
    stages: Sequence[Stage],
    *,
    experiment: str = "",
    environment: Mapping[str, str] | None = None,
    run_stage: Callable[..., StageStatus] = run_with_retries,
    **how: Any,
) -> RunResult:
    """Run the stages in `path`: the project itself, or a clone of it, whose experiment has a name."""
    named = {"MSCLNET_EXPERIMENT": experiment} if experiment else {}
    variables = stage_environment(root, workspace=path, extra={**named, **(environment or {})})
    statuses, seconds = {}, {}
    for stage in stages:
        started = time.monotonic()
        statuses[stage.name] = run_stage(path, stage.name, environment=variables, **how)
        seconds[stage.name] = time.monotonic() - started
    lock = (path / "dvc.lock").read_text(encoding="utf-8")
    files = output_files(lock, stages=list(statuses), cache=workspace.cache_folder(root))
    return RunResult(statuses, seconds, lock, files)
