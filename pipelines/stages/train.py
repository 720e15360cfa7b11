"""Stage `train`: from images to the weights of MSCLNet."""

import hashlib
import json
import math
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msclnet.datasets.records import SPLITS
from msclnet.distributed import ALONE, Processes, embed_together, synchronise_batch_norm
from msclnet.embedding import embed_images
from msclnet.errors import UserError
from msclnet.images.augmentation import build_augmentation
from msclnet.images.batches import TrainingBatches, step_loader
from msclnet.images.sampler import IdentitySampler, paired_identities, steps_per_epoch
from msclnet.images.table import Rows, file_digest, open_array, read_manifest
from msclnet.losses.objective import Objective
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from msclnet.precision import choose_precision
from msclnet.recipe import RECIPE
from msclnet.retrieval.evaluation import validation_figures
from msclnet.retrieval.protocols import Images
from msclnet.tracking.group import DIVERGING
from msclnet.tracking.run import Tracker
from msclnet.tracking.run_setup import DatasetInfo
from msclnet.training.checkpoint import CheckpointFolder, remove_finished
from msclnet.training.cuda_graph import graphs_wanted
from msclnet.training.history import write_history
from msclnet.training.loop import DivergedError, Settings, Training
from msclnet.training.optimizer import Schedule, build_optimizer
from msclnet.training.profiler import PASSED_OVER, traced
from msclnet.training.step import compile_backbone, not_compiled, require_compiler
from msclnet.worker_processes import dead_workers_explained
from pipelines import settings
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.mlflow_run import dataset_digest, flow_tags, register_network
from pipelines.stages.parallel import run_parallel_stage
from pipelines.stages.paths import fresh, write_json

TRAINING_SECTIONS = ("preprocess", "augment", "model", "synergy", "loss", "train")


def training_key(params: Params, *, device: str) -> str:
    """Name of everything that decides how a training goes; a checkpoint belongs to one such name."""
    facts = {
        "seed": params.seed,
        "params": {name: params.section(name) for name in TRAINING_SECTIONS},
        "data": file_digest(paths.MANIFEST),
        "recipe": RECIPE,
        "torch": torch.__version__,
        "device": device,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def dataset_facts(params: Params) -> dict[str, Any]:
    """Name, digest and counts of the data set that lies in data/processed."""
    counts = {}
    for split in SPLITS:
        rows = read_manifest(paths.MANIFEST, split)
        counts[f"{split}_visible"] = int((~rows.infrared).sum())
        counts[f"{split}_infrared"] = int(rows.infrared.sum())
        counts[f"{split}_identities"] = len(set(rows.identities.tolist()))
    return {"name": params.download.dataset, "digest": dataset_digest(), "counts": counts}


def git_commit() -> str:
    """The commit of this project, with `-dirty` for changed files; `none` without a git repository of its own."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True
        ).stdout.removesuffix("\n")

    try:
        if Path(git("rev-parse", "--show-toplevel")) != Path.cwd().resolve():
            return "none"
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return "none"


# A training that is stopped from outside says how to go on.

WORDS = {128 + signal.SIGTERM: "SIGTERM", 128 + signal.SIGINT: "Ctrl-C"}


@contextmanager
def tells_how_to_go_on(checkpoints: CheckpointFolder) -> Iterator[None]:
    """Where SIGTERM or Ctrl-C ends the block, print a line that says from where the next start goes on."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as stop:
        code = 128 + signal.SIGINT if isinstance(stop, KeyboardInterrupt) else stop.code
        if code in WORDS:
            print(f"stopped by {WORDS[code]}: {_how(checkpoints)}", file=sys.stderr)
        raise


def _how(checkpoints: CheckpointFolder) -> str:
    if checkpoints.latest is None:
        return "nothing was trained yet; start the same command again"
    epoch, step = checkpoints.latest
    place = f"epoch {epoch}" + (f" and {step} steps of the next" if step else "")
    return f"start the same command again to go on after {place} (saved in {checkpoints.folder})"


@contextmanager
def profiled(training: Training, *, steps: int, folder: Path, tracker: Tracker) -> Iterator[None]:
    """Trace some of the steps that `training` takes within the block.

    Args:
        training: Before its `run`.
        steps: How many; 0 for none.
        folder: Where the trace goes; named after its first step, counted from the training's start.
        tracker: Gets the trace as an artifact in `profile/`.
    """
    if not steps:
        yield
        return
    first = training.steps_done + PASSED_OVER + 1
    target = folder / f"step-{first}.json.gz"

    there: list[Path] = []

    def written(path: Path) -> None:
        there.append(path)
        print(f"trace of up to {steps} steps from step {first} on: {path} (for Perfetto or chrome://tracing)")
        tracker.log_artifact(path, "profile")

    with traced(target, steps=steps, device=training.device, written=written) as after_step:
        training.after_step = after_step
        yield
    if not there:
        print(f"profile: fewer than {PASSED_OVER + 1} steps were left to train: no trace")


LOGGED_SECTIONS = ("download", *TRAINING_SECTIONS)
VALIDATION_BATCH = 64
FEWEST_PIXELS = (64, 32)  # height and width


def train(params: Params, processes: Processes = ALONE) -> None:
    """data/processed -> results/train, with checkpoints in <home>/checkpoints and a run in MLflow.

    Of several processes the first one reads and writes all of these but the data.
    """
    paths.check_permutations(params)  # evaluate needs them; a training may take days
    # Both before a run in MLflow begins, which would end as failed.
    graphs_wanted()
    if params.train.compile:
        require_compiler()
    device = settings.device()
    params = with_precision(params, device, warn=processes.first)
    key = training_key(params, device=device.type)
    processes.require_same(key, what="parameters, data or precision (train.precision: auto)")
    if processes.first:
        warn_of_few_pixels(params)
        lead(params, device=device, key=key, processes=processes)
    else:
        follow(params, device=device, key=key, processes=processes)


def with_precision(params: Params, device: torch.device, *, warn: bool = True) -> Params:
    """The parameters with `train.precision` as this device gets it: of `auto`, what it computes natively."""
    precision = choose_precision(params.train.precision, device, key="train.precision", warn=warn)
    return params.model_copy(update={"train": params.train.model_copy(update={"precision": precision})})


def warn_of_few_pixels(params: Params) -> None:
    """Print a warning where too little of an image reaches the first convolution."""
    reduction = params.model.reduction if params.model.backbone == "slim" else 1
    height, width = params.preprocess.height // reduction, params.preprocess.width // reduction
    if height < FEWEST_PIXELS[0] or width < FEWEST_PIXELS[1]:
        print(
            f"warning: {height} x {width} pixels reach the first convolution, fewer than {FEWEST_PIXELS[0]} x "
            f"{FEWEST_PIXELS[1]}: the network learns little; lower model.reduction (now {reduction}) or raise "
            "preprocess.height and preprocess.width",
            file=sys.stderr,
        )


def lead(params: Params, *, device: torch.device, key: str, processes: Processes) -> None:
    """The first process's part."""
    paths.TRAIN.mkdir(parents=True, exist_ok=True)
    paths.DIVERGED.unlink(missing_ok=True)
    checkpoints = settings.home() / "checkpoints"
    folder = CheckpointFolder(checkpoints / key, keep=settings.kept_checkpoints())
    remove_finished(checkpoints, but=folder)
    with folder.locked(), tells_how_to_go_on(folder):
        saved = folder.load_latest()
        state = saved[1] if saved else None
        if state is not None and state["extra"].get("key") != key:
            raise UserError(
                f"{folder.folder} holds a checkpoint of another configuration ({state['extra'].get('key')}); "
                "it was not written there by this project: remove the folder and train again"
            )
        resume = state["extra"]["tracking"] if state else None
        tracker = start_tracking(params, key=key, resume=resume, processes=processes)
        with tracker.lifetime(), dead_workers_explained():
            training = build_training(
                params, device=device, folder=folder, tracker=tracker, key=key, processes=processes
            )
            processes.state_from_first(state)
            if state is not None:
                training.resume(state)
                done = training.progress
                print(
                    f"going on after epoch {done.epoch} and {done.part.steps} steps of the next "
                    f"(checkpoint {folder.folder})"
                )
            profiles = settings.home() / "profiles" / key
            with profiled(training, steps=params.profile, folder=profiles, tracker=tracker):
                try:
                    weights = training.run()
                except DivergedError as error:
                    write_divergence(error, training.progress.history, tracker)
                    raise
            write_result(params, training, weights, tracker=tracker)
            folder.finish()


def write_divergence(error: DivergedError, history: Sequence[Mapping[str, float]], tracker: Tracker) -> None:
    """Write how the training left the range, its last steps one by one, and log it to MLflow."""
    if history:
        write_history(paths.HISTORY, history)
    steps = [
        {name: value if math.isfinite(value) else None for name, value in values.items()}
        for values in error.steps
    ]
    facts = {"message": str(error), "epoch": error.epoch, "step": error.step, "last_steps": steps}
    write_json(paths.DIVERGED, facts)
    print(f"the last {len(steps)} steps: {paths.DIVERGED}")
    tracker.log_artifact(paths.DIVERGED, "train")
    for values in error.steps:
        named = {DIVERGING + name: value for name, value in values.items() if name != "step"}
        tracker.log_metrics(named, step=int(values["step"]))


def follow(params: Params, *, device: torch.device, key: str, processes: Processes) -> None:
    """The part of every other process: its share of the training, and not a word of it."""
    training = build_training(params, device=device, folder=None, tracker=None, key=key, processes=processes)
    state = processes.state_from_first(None)
    if state is not None:
        training.resume(state)
    with dead_workers_explained():
        training.run()


def start_tracking(
    params: Params, *, key: str, resume: Mapping[str, Any] | None, processes: Processes = ALONE
) -> Tracker:
    """Begin the MLflow run of this training, or go on with it."""
    facts = dataset_facts(params)
    return Tracker.start(
        home=settings.home(),
        experiment=params.tracking.experiment,
        run_name=f"{params.model.backbone}-seed{params.seed}-{key[:6]}",
        # What the key covers and nothing else: a resumed run may not change its parameters.
        params={"seed": params.seed, **logged_params(params)},
        tags={
            "git_commit": git_commit(),
            "dvc_stage": "train",
            "training_key": key,
            "precision": params.train.precision,
            "world_size": str(processes.world),
            **flow_tags(),
        },
        dataset=DatasetInfo(**facts),
        resume=resume,
    )


def logged_params(params: Params) -> dict[str, Any]:
    """What is logged as the run's parameters; not where the data came from, for a place may hold a password."""
    sections = {name: params.section(name) for name in LOGGED_SECTIONS}
    sections["download"] = {
        name: value for name, value in sections["download"].items() if name in ("dataset", "synthetic")
    }
    if params.download.dataset != "synthetic":
        del sections["download"]["synthetic"]
    return sections


def build_training(
    params: Params,
    *,
    device: torch.device,
    folder: CheckpointFolder | None,
    tracker: Tracker | None,
    key: str,
    processes: Processes = ALONE,
) -> Training:
    """Assemble all parts of a training from the parameters; folder and tracker belong to the first process."""
    rows, images = read_manifest(paths.MANIFEST, "train"), open_array(paths.images_of("train"))
    batch = params.train.batch
    sampler = IdentitySampler(
        rows,
        identities=batch.identities,
        images=batch.images,
        seed=params.seed,
        sampling=batch.sampling,
        rank=processes.rank,
        world=processes.world,
    )
    augmentation = build_augmentation(
        params.section("augment"), height=images.shape[1], width=images.shape[2]
    )
    batches = TrainingBatches(images, rows, sampler, augmentation)
    steps = params.train.steps_per_epoch or steps_per_epoch(rows, batch=batch.identities * batch.images)

    seed_everything(params.seed)
    network = build_network(network_spec(params)).to(device)
    if params.train.sync_batch_norm and processes.world > 1:
        synchronise_batch_norm(network, device=device)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    validate = validator(params, device=device, processes=processes)
    if params.train.compile:
        compile_backbone(network)
        validate = not_compiled(validate)
    optimizer = params.train.optimizer
    workers = settings.workers(1 if device.type == "cpu" else min(8, settings.cores()))

    def report(row: Mapping[str, float], epoch: int) -> None:
        assert tracker is not None  # only the first process reports
        write_history(paths.HISTORY, training.progress.history)
        tracker.log_metrics({name: value for name, value in row.items() if name != "epoch"}, step=epoch)

    training = Training(
        network=network,
        objective=Objective(params.section("loss"), params.section("synergy")),
        optimizer=build_optimizer(
            network,
            optimizer.model_dump(),
            pretrained=network.backbone if params.model.weights != "none" else None,
        ),
        schedule=Schedule(
            points=[(point.from_epoch, point.rate) for point in optimizer.schedule],
            warmup_epochs=optimizer.warmup_epochs,
            steps_per_epoch=steps,
        ),
        settings=Settings(
            epochs=params.train.epochs,
            steps_per_epoch=steps,
            precision=params.train.precision,
            validate_every=params.train.validate_every,
            gradients_every=params.train.gradients_every,
            norm_limit=params.train.norm_limit,
            weight_average=params.train.weight_average,
            keep=params.train.keep,
        ),
        device=device,
        loader=lambda first, last: step_loader(
            batches, first=first, last=last, workers=workers, pinned=device.type == "cuda"
        ),
        validate=validate,
        report=report,
        checkpoints=folder,
        extra={"key": key, "tracking": tracker.reference if tracker is not None else None},
        processes=processes,
    )
    return training


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and random; the start of the network is all that draws from them."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def network_spec(params: Params) -> dict[str, Any]:
    """What msclnet.models.build.build_network takes."""
    identities = paired_identities(read_manifest(paths.MANIFEST, "train"))
    return {
        "identities": len(identities),
        "model": params.section("model"),
        "synergy": params.section("synergy"),
    }


def validator(params: Params, *, device: torch.device, processes: Processes) -> Any:
    """A function from the network to its figures on the validation identities; none where there are none.

    Each process embeds its share of the images, and the first one gets the figures.
    """
    rows, pixels = read_manifest(paths.MANIFEST, "val"), open_array(paths.images_of("val"))
    images = images_of(rows)
    if not len(rows):
        return lambda network: {}

    def run(network: MSCLNet) -> dict[str, float]:
        embed_some = partial(embed_images, network, batch=VALIDATION_BATCH, device=device)
        features = embed_together(
            embed_some, pixels, rows.infrared, batch=VALIDATION_BATCH, processes=processes
        )
        if features is None:
            return {}
        return validation_figures(features[1], images, feature="bnneck", dataset=params.download.dataset)

    return run


def images_of(rows: Rows) -> Images:
    """The manifest's columns as the protocols want them."""
    return Images(rows.identities, rows.cameras, rows.infrared, rows.paths)


def write_result(
    params: Params, training: Training, weights: dict[str, torch.Tensor], *, tracker: Tracker
) -> None:
    """Write weights, network spec, history and run.json, and register the model."""
    spec = network_spec(params)
    spec["model"]["weights"] = "none"  # whoever loads it brings the weights
    write_history(paths.HISTORY, training.progress.history)
    write_json(paths.NETWORK_SPEC, spec)
    save_weights(weights, fresh(paths.WEIGHTS))
    version = register_network(tracker, name=params.tracking.registered_model)
    for path in (paths.HISTORY, paths.NETWORK_SPEC):
        tracker.log_artifact(path, "train")
    best = training.progress
    summary = {
        **tracker.reference,
        "model": params.tracking.registered_model,
        "model_version": version,
        "epochs": best.epoch,
        "kept_epoch": best.best_epoch if params.train.keep == "best" else best.epoch,
        "precision": params.train.precision,
    }
    write_json(paths.RUN, summary)


def save_weights(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Write weights as safetensors.

    Raises:
        UserError: They could not be written; the checkpoint still holds them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(weights, path)
    except SafetensorError as error:
        raise UserError(
            f"{path} could not be written ({error}); free some space and start again: the training itself is done "
            "and is not repeated"
        ) from error


if __name__ == "__main__":
    run_parallel_stage(train, ("-m", "pipelines.stages.train"))
