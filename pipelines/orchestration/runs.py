"""Runs of the pipeline: `run_workspace` in the user's tree, `run_experiment` in a slot, ending as a DVC experiment."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from msclnet.errors import UserError
from msclnet.tracking.masking import mask
from pipelines.orchestration import experiments
from pipelines.orchestration.locks import held_lock
from pipelines.orchestration.overrides import apply_overrides, apply_preset, flatten
from pipelines.orchestration.project import (
    Stage,
    figures,
    output_files,
    read_metrics,
    read_stages,
    stages_between,
)
from pipelines.orchestration.slots import Slot, cache_folder, check_cache, slot
from pipelines.orchestration.stage_process import StageFailedError, StageStatus, run_stage
from pipelines.settings import stage_environment

RECORDS = "experiments/results"  # what finished grid cells came to is no input of the next one
Validate = Callable[[Path], object]
EachStage = Callable[[str, Callable[[], StageStatus]], StageStatus]


@dataclass(frozen=True)
class RunResult:
    """What a run has produced.

    Attributes:
        stages: status of each stage, in order.
        metrics: the evaluation's metrics, empty where the run ended before it.
        figures: file name -> PNG file in the DVC cache.
    """

    stages: dict[str, StageStatus]
    metrics: dict[str, Any]
    figures: dict[str, Path]


@dataclass(frozen=True)
class ExperimentResult(RunResult):
    """What an isolated run has produced, and where `dvc exp` finds it.

    Attributes:
        name: the experiment's name, for `dvc exp show / apply / branch / remove`.
        ref: the full git ref.
        rev: the commit's id.
        reused: whether an equal experiment was there already, so that nothing was done.
    """

    name: str = ""
    ref: str = ""
    rev: str = ""
    reused: bool = False


@dataclass(frozen=True)
class RunOptions:
    """How to run, as opposed to what.

    Attributes:
        on_line: receives each line of the stages' output.
        each_stage: called with a stage's name and the function that runs it; by default a crashed stage is
            tried again `retries` times.
        retries: how often.
        flow_run_id: the Prefect flow run, tagged on the MLflow run.
        environment: further variables for the stages.
        seconds: receives the time that each stage took.
        stop: set by another thread to end the run.
    """

    on_line: Callable[[str], None] = print
    each_stage: EachStage | None = None
    retries: int = 1
    flow_run_id: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    stop: Event | None = None


def run_workspace(
    root: Path,
    *,
    since: str | None = None,
    until: str | None = None,
    validate: Validate | None = None,
    options: RunOptions | None = None,
) -> RunResult:
    """Run the pipeline in the user's working tree, as `dvc repro` would.

    Args:
        root: the project.
        since: first stage; default: the first of dvc.yaml.
        until: last stage; default: the last of dvc.yaml.
        validate: called with the path of params.yaml before anything runs; raises UserError.
        options: how to run.

    Returns:
        Status of each stage, metrics and figures.

    Raises:
        UserError: a mistake in params.yaml, in the arguments, or reported by a stage.
        StageFailedError: a stage crashed, again and again.
    """
    root, options = root.resolve(), options or RunOptions()
    selected = stages_between(read_stages(root), since=since, until=until)
    check_cache(root)
    say = options.on_line
    with held_lock(
        root / ".dvc" / "tmp" / "flows" / "workspace.lock",
        on_wait=lambda: say("another run works in this working tree: waiting for its end"),
    ) as lock:
        if validate is not None:
            validate(root / "params.yaml")
        environment = stage_environment(
            root, workspace=root, flow_run_id=options.flow_run_id, extra=options.environment
        )
        statuses = _run_stages(root, selected, environment, (lock,), options)
        text = (root / "dvc.lock").read_bytes()
    files = output_files(text, stages=list(statuses), cache=cache_folder(root)) or {}
    return RunResult(stages=statuses, metrics=read_metrics(files), figures=figures(files))


def run_experiment(
    root: Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    preset: str | None = None,
    name: str | None = None,
    until: str | None = None,
    validate: Validate | None = None,
    replace: bool = False,
    reuse: bool = True,
    options: RunOptions | None = None,
) -> ExperimentResult:
    """Run the pipeline with other parameters, without touching the user's working tree.

    The run starts from the user's present files, committed or not, and ends as an experiment of the present
    commit. Inputs (all files but the stages' outputs) are compared as git trees: an experiment with equal
    inputs whose outputs are still in the cache is not run again. A second run with the same inputs at the same
    time waits for the first.

    Args:
        root: the project: a git repository with a commit.
        overrides: values by dotted key, on top of the preset or params.yaml.
        preset: name of a file in presets/ that takes the place of params.yaml.
        name: the experiment's name; default: made of the preset, the overrides and a digest of the inputs.
        until: last stage; default: the last of dvc.yaml.
        validate: called with the path of the run's params.yaml before anything runs; raises UserError.
        replace: whether an experiment of this name with other inputs may be overwritten.
        reuse: whether an equal experiment is taken as the result.
        options: how to run.

    Returns:
        Name, ref and commit of the experiment, status of each stage, metrics and figures.

    Raises:
        UserError: a mistake in the arguments, the parameters, or reported by a stage.
        StageFailedError: a stage crashed, again and again; nothing is saved.
    """
    root, options = root.resolve(), options or RunOptions()
    overrides = flatten(overrides or {})
    if name is not None:
        experiments.check_name(root, name)
    with slot(root) as copy:
        if preset is not None:
            apply_preset(copy.path, preset)
        if overrides:
            apply_overrides(copy.path / "params.yaml", overrides)
        if validate is not None:
            validate(copy.path / "params.yaml")
        every = read_stages(copy.path)
        selected = [stage for stage in stages_between(every, until=until) if not stage.watches]
        watched = [stage for stage in every if stage.watches]
        if watched:  # what they find outside the project is an input of the run
            environment = stage_environment(root, workspace=copy.path, extra=copy.environment)
            _run_stages(copy.path, watched, environment, (copy.lock,), options)
        outputs = [path for stage in every if not stage.watches for path in stage.outputs]
        inputs = copy.tree(
            without=("dvc.lock", RECORDS, *outputs),
            ignored=[path for stage in watched for path in stage.outputs],
        )
        record = experiments.Record(
            name=name or _readable_name(preset, overrides, inputs),
            inputs=inputs,
            overrides=mask(json.dumps(overrides, default=str, sort_keys=True)),
            preset=preset or "",
            stages=tuple(stage.name for stage in selected),
        )
        return _run_once(root, copy, record, selected, replace, reuse, options)


def _run_once(
    root: Path,
    copy: Slot,
    record: experiments.Record,
    selected: list[Stage],
    replace: bool,
    reuse: bool,
    options: RunOptions,
) -> ExperimentResult:
    say, names, cache = options.on_line, list(record.stages), cache_folder(root)
    locks = root / ".dvc" / "tmp" / "flows" / "locks"
    with (
        held_lock(
            locks / f"inputs-{record.inputs}",
            on_wait=lambda: say("another run has the same inputs: waiting for its end"),
        ) as same_inputs,
        held_lock(
            locks / f"name-{record.name}",
            on_wait=lambda: say(f"another run is called {record.name}, too: waiting for its end"),
        ) as same_name,
    ):
        found = experiments.find(root, copy.base, record.name)
        equal = found is not None and found.record.inputs == record.inputs
        if found is not None and not equal and not replace:
            raise UserError(
                f"an experiment {record.name!r} with other inputs exists: choose another name, "
                f"or remove it with `dvc exp remove {record.name}`"
            )
        if found is not None and equal and reuse and set(names) <= set(found.record.stages):
            files = output_files(found.lock, stages=names, cache=cache)
            if files is not None:
                say(f"experiment {record.name} has equal inputs: nothing to run")
                statuses: dict[str, StageStatus] = dict.fromkeys(names, "unchanged")
                return _result(record, found, statuses, files, reused=True)
        environment = stage_environment(
            root,
            workspace=copy.path,
            flow_run_id=options.flow_run_id,
            extra={**copy.environment, **options.environment},
        )
        statuses = _run_stages(copy.path, selected, environment, (copy.lock, same_inputs, same_name), options)
        uncached = [path for stage in selected for path in stage.uncached]
        saved = experiments.save(copy, record, uncached=uncached, replace=found is not None)
    files = output_files(saved.lock, stages=names, cache=cache) or {}
    say(f"saved as experiment {record.name}: dvc exp show, dvc exp apply {record.name}")
    return _result(record, saved, statuses, files, reused=False)


def _run_stages(
    workspace: Path,
    stages: list[Stage],
    environment: Mapping[str, str],
    locks: tuple[int, ...],
    options: RunOptions,
) -> dict[str, StageStatus]:
    each_stage = options.each_stage or _with_retries(options)
    statuses: dict[str, StageStatus] = {}
    for stage in stages:

        def execute(name: str = stage.name) -> StageStatus:
            return run_stage(
                workspace,
                name,
                environment=environment,
                on_line=options.on_line,
                locks=locks,
                stop=options.stop,
            )

        started = time.monotonic()
        try:
            statuses[stage.name] = each_stage(stage.name, execute)
        finally:
            options.seconds[stage.name] = time.monotonic() - started
    return statuses


def _with_retries(options: RunOptions) -> EachStage:
    def each_stage(name: str, execute: Callable[[], StageStatus]) -> StageStatus:
        for left in range(options.retries, -1, -1):
            try:
                return execute()
            except StageFailedError as error:
                if not left:
                    raise
                options.on_line(f"{str(error).partition(';')[0]}: trying again")
        raise AssertionError("unreachable")

    return each_stage


def _readable_name(preset: str | None, overrides: Mapping[str, Any], inputs: str) -> str:
    """For example `smoke-epochs-3-1a2b3c4`: a name for the eye; the digest makes it the inputs' own."""
    words = [preset] if preset else []
    for key, value in overrides.items():
        words.append(f"{key.rsplit('.', 1)[-1]}-{value}")
    text = re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(words)).strip("-._")
    text = re.sub(r"\.{2,}", ".", text)[:60].rstrip("-._")
    return f"{text or 'run'}-{inputs[:7]}"


def _result(
    record: experiments.Record,
    saved: experiments.Saved,
    statuses: dict[str, StageStatus],
    files: dict[str, Path],
    *,
    reused: bool,
) -> ExperimentResult:
    return ExperimentResult(
        stages=statuses,
        metrics=read_metrics(files),
        figures=figures(files),
        name=record.name,
        ref=saved.ref,
        rev=saved.rev,
        reused=reused,
    )
