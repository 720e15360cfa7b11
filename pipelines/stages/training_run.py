"""The run of a training on the disk and in MLflow: checkpoints, results/train, metrics, how it ended."""

import math
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from msclnet.datasets.records import Split
from msclnet.distributed import Processes
from msclnet.errors import UserError
from msclnet.images.table import Rows
from msclnet.recipe import RECIPE
from msclnet.tracking.run import Tracker
from msclnet.tracking.run_setup import DatasetInfo
from msclnet.training.checkpoint import CheckpointFolder, remove_finished
from msclnet.training.history import write_history
from msclnet.training.loop import DivergedError, Recorder, Training
from msclnet.training.profiler import SKIPPED, traced
from pipelines import settings
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.lineage import lineage_tags, log_lineage
from pipelines.stages.mlflow_run import flow_tags, register_network
from pipelines.stages.paths import fresh, write_json

TRAINING_SECTIONS = ("preprocess", "augment", "model", "synergy", "loss", "train")
STOPS = {128 + signal.SIGTERM: "SIGTERM", 128 + signal.SIGINT: "Ctrl-C"}


class Run(Recorder):
    """What ranks 1 to N - 1 have of a run: they read no checkpoint, write no files and log nothing."""

    state: Mapping[str, Any] | None = None  # of the checkpoint to resume from

    def profiled(self, training: Training) -> AbstractContextManager[None]:
        """Trace the first steps that `training` takes within the block."""
        return nullcontext()

    def diverged(self, error: DivergedError, history: Sequence[Mapping[str, float]]) -> None:
        """Record the last steps of a training that diverged."""

    def finish(
        self,
        training: Training,
        weights: Mapping[str, Tensor],
        spec: Mapping[str, Any],
        rows: Mapping[Split, Rows],
    ) -> None:
        """Write the result: `weights` of the network that `spec` describes; `rows` of the manifest."""


@dataclass
class FirstRun(Run):
    """Rank 0's run: checkpoints, results/train and MLflow."""

    params: Params
    key: str
    checkpoints: CheckpointFolder
    tracker: Tracker
    state: Mapping[str, Any] | None

    def save(self, state: Mapping[str, Any], *, epoch: int, step: int = 0) -> None:
        """Write a checkpoint, with the key and the MLflow run."""
        extra = {"key": self.key, "tracking": self.tracker.reference}
        self.checkpoints.save({**state, "extra": extra}, epoch=epoch, step=step)

    def report(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write the epochs so far to history.csv, and log the last one to MLflow."""
        write_history(paths.HISTORY, history)
        row = dict(history[-1])
        self.tracker.log_metrics(row, step=int(row.pop("epoch")))

    @contextmanager
    def profiled(self, training: Training) -> Iterator[None]:
        """Trace as many steps as the parameter `profile` asks for."""
        steps = self.params.profile
        if not steps:
            yield
            return
        first = training.steps_done + SKIPPED + 1
        target = settings.home() / "profiles" / self.key / f"step-{first}.json.gz"

        def report_trace(path: Path) -> None:
            print(
                f"trace of up to {steps} steps from step {first} on: {path} (for Perfetto, chrome://tracing)"
            )
            self.tracker.log_artifact(path, "profile")

        with traced(target, steps=steps, device=training.device, written=report_trace) as after_step:
            training.after_step = after_step
            yield
        if not target.is_file():
            print(f"profile: fewer than {SKIPPED + 1} steps were left to train: no trace")

    def diverged(self, error: DivergedError, history: Sequence[Mapping[str, float]]) -> None:
        """Write diverged.json with the last steps one by one, and log it to MLflow."""
        if history:
            write_history(paths.HISTORY, history)
        steps = [
            {name: value if math.isfinite(value) else None for name, value in values.items()}
            for values in error.steps
        ]
        facts = {"message": str(error), "epoch": error.epoch, "step": error.step, "last_steps": steps}
        write_json(paths.DIVERGED, facts)
        print(f"the last {len(steps)} steps: {paths.DIVERGED}")
        self.tracker.log_artifact(paths.DIVERGED, "train")
        for values in error.steps:
            named = {f"diverging/{name}": value for name, value in values.items() if name != "step"}
            self.tracker.log_metrics(named, step=int(values["step"]))

    def finish(
        self,
        training: Training,
        weights: Mapping[str, Tensor],
        spec: Mapping[str, Any],
        rows: Mapping[Split, Rows],
    ) -> None:
        """Write weights, network spec, history and run.json, and register the model."""
        done, name = training.progress, self.params.tracking.registered_model
        write_history(paths.HISTORY, done.history)
        # The loaded weights replace those that it was initialised with.
        write_json(paths.NETWORK_SPEC, {**spec, "model": {**spec["model"], "weights": "none"}})
        save_weights(weights, fresh(paths.WEIGHTS))
        version = register_network(self.tracker, rows, name=name)
        for path in (paths.HISTORY, paths.NETWORK_SPEC):
            self.tracker.log_artifact(path, "train")
        summary = {
            **self.tracker.reference,
            "model": name,
            "model_version": version,
            "epochs": done.epoch,
            "kept_epoch": done.best_epoch if self.params.train.keep == "best" else done.epoch,
            "precision": self.params.train.precision,
        }
        write_json(paths.RUN, summary)
        self.checkpoints.finish()


@contextmanager
def open_run(params: Params, *, key: str, dataset: DatasetInfo, processes: Processes) -> Iterator[Run]:
    """Begin a run or resume it; how the block ends decides how it ends in MLflow.

    Raises:
        UserError: Another process trains this configuration, the processes do not agree on it, or MLflow does not
            answer.
    """
    processes.require_same(key, description="parameters, data or precision (train.precision: auto)")
    if processes.rank > 0:
        yield Run()
        return
    paths.TRAIN.mkdir(parents=True, exist_ok=True)
    paths.DIVERGED.unlink(missing_ok=True)
    folder = settings.home() / "checkpoints"
    checkpoints = CheckpointFolder(folder / key, keep=settings.read_settings().keep_checkpoints)
    remove_finished(folder, exclude=checkpoints)
    with checkpoints.locked(), stop_reported(checkpoints):
        state = checkpoints.load_latest()
        if state is not None and state["extra"].get("key") != key:
            raise UserError(
                f"{checkpoints.folder} holds a checkpoint of another configuration ({state['extra'].get('key')}); "
                "it was not written there by this project: remove the folder and train again"
            )
        if checkpoints.latest:
            print(f"resumed after {_place(checkpoints.latest)} (checkpoint {checkpoints.folder})")
        tracker = Tracker.start(
            home=settings.home(),
            experiment=params.tracking.experiment,
            run_name=f"{params.model.backbone}-seed{params.seed}-{key[:6]}",
            params=logged_params(params),
            tags={
                "dvc_stage": "train",
                "training_key": key,
                "precision": params.train.precision,
                "world_size": str(processes.world),
                "recipe": str(RECIPE),
                **lineage_tags(),
                **flow_tags(),
            },
            dataset=dataset,
            resume=state and state["extra"]["tracking"],
        )
        with tracker.lifetime():
            log_lineage(tracker)
            yield FirstRun(params, key, checkpoints, tracker, state)


def logged_params(params: Params) -> dict[str, Any]:
    """What the key covers and nothing else, for a resumed run may not change its parameters."""
    sections = {name: params.section(name) for name in ("download", *TRAINING_SECTIONS)}
    kept = ("dataset", params.download.dataset)  # not where the data came from
    sections["download"] = {name: value for name, value in sections["download"].items() if name in kept}
    return {"seed": params.seed, **sections}


@contextmanager
def stop_reported(checkpoints: CheckpointFolder) -> Iterator[None]:
    """Where SIGTERM or Ctrl-C ends the block, print from where the next start resumes."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as stop:
        code = 128 + signal.SIGINT if isinstance(stop, KeyboardInterrupt) else stop.code
        if code in STOPS:
            again = "nothing was trained yet; start the same command again"
            if checkpoints.latest:
                place = _place(checkpoints.latest)
                again = (
                    f"start the same command again to resume after {place} (saved in {checkpoints.folder})"
                )
            print(f"stopped by {STOPS[code]}: {again}", file=sys.stderr)
        raise


def _place(latest: tuple[int, int]) -> str:
    epoch, step = latest
    return f"epoch {epoch}" + (f" and {step} steps of the next" if step else "")


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write weights as safetensors; the checkpoint still holds them where that fails."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(weights), path)
    except SafetensorError as error:
        raise UserError(
            f"{path} could not be written ({error}); free some space and start again: the training itself is done "
            "and is not repeated"
        ) from error
