"""Stage `train`: from images to the weights of MSCLNet."""

import hashlib
import json
import os
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from msclnet.datasets.records import Split
from msclnet.distributed import Processes, connected, embed_together, synchronise_batch_norm
from msclnet.embedding import embed_images
from msclnet.errors import memory_errors_explained
from msclnet.images.augmentation import build_augmentation
from msclnet.images.batches import TrainingBatches, step_loader
from msclnet.images.sampler import IdentitySampler, paired_identities, steps_per_epoch
from msclnet.images.table import Rows, file_digest, open_array, read_splits
from msclnet.losses.objective import Objective
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from msclnet.precision import choose_precision
from msclnet.recipe import RECIPE
from msclnet.retrieval.evaluation import query_exclusion, validation_figures
from msclnet.retrieval.protocols import Images
from msclnet.tracking.run_setup import DatasetInfo
from msclnet.training.loop import DivergedError, Training
from msclnet.training.optimizer import Schedule, build_optimizer
from msclnet.training.step import compile_backbone, not_compiled, require_compiler
from msclnet.worker_processes import loader_errors_explained, require_shared_memory
from pipelines import settings
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.stage import run_stage
from pipelines.stages.training_run import TRAINING_SECTIONS, Run, open_run

VALIDATION_BATCH = 64
FEWEST_PIXELS = (64, 32)  # height and width
MEMORY_REMEDY = (
    "make train.batch.identities or train.batch.images smaller (which changes the result), set MSCLNET_WORKERS to a "
    "smaller number, or train on a machine or GPU with more; training is resumed from its last checkpoint"
)


def train(params: Params) -> None:
    """data/processed -> results/train, checkpoints in <home>/checkpoints and a run in MLflow; only rank 0 writes."""
    paths.check_permutations(params)  # evaluate needs them; a training may take days
    # Mistakes are reported before a run in MLflow begins, which would end as failed.
    if params.train.compile:
        require_compiler()
    device, data = settings.device(), open_training_data()
    with connected(device=device) as processes:
        params = with_precision(params, device, warn=processes.first)
        if processes.first:
            warn_of_few_pixels(params)
        key = training_key(params, data, device=device.type)
        spec = {
            "identities": len(paired_identities(data.rows["train"])),
            "model": params.section("model"),
            "synergy": params.section("synergy"),
        }
        with (
            memory_errors_explained(MEMORY_REMEDY),  # also of ending the run in MLflow, which starts a thread
            open_run(params, key=key, dataset=data.info(params), processes=processes) as run,
            loader_errors_explained(),
        ):
            training = build_training(params, data, spec, device=device, run=run, processes=processes)
            state = processes.state_from_first(run.state)
            if state is not None:
                training.resume(state)
            with run.profiled(training):
                try:
                    weights = training.run()
                except DivergedError as error:
                    run.diverged(error, training.progress.history)
                    raise
            run.finish(training, weights, spec, data.rows)


@dataclass(frozen=True)
class TrainingData:
    """What lies in data/processed."""

    rows: Mapping[Split, Rows]
    train: np.ndarray  # uint8 RGB (N, H, W, 3), a memory map, as val
    val: np.ndarray
    digest: str  # sha256 of the manifest, which holds every source file's checksum

    def info(self, params: Params) -> DatasetInfo:
        """Name, digest and counts, for MLflow."""
        counts = {}
        for split, rows in self.rows.items():
            counts[f"{split}_visible"] = int((~rows.infrared).sum())
            counts[f"{split}_infrared"] = int(rows.infrared.sum())
            counts[f"{split}_identities"] = len(set(rows.identities.tolist()))
        return DatasetInfo(name=params.download.dataset, digest=self.digest[:32], counts=counts)


def open_training_data() -> TrainingData:
    """Read the manifest, and map the images of training and validation."""
    return TrainingData(
        rows=read_splits(paths.MANIFEST),
        train=open_array(paths.images_of("train")),
        val=open_array(paths.images_of("val")),
        digest=file_digest(paths.MANIFEST),
    )


def with_precision(params: Params, device: torch.device, *, warn: bool = True) -> Params:
    """The parameters with the precision that this device computes natively in the place of `auto`."""
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


def training_key(params: Params, data: TrainingData, *, device: str) -> str:
    """Digest of everything that decides the result of a training, and name of its checkpoints' folder."""
    facts = {
        "seed": params.seed,
        "params": {name: params.section(name) for name in TRAINING_SECTIONS},
        "data": data.digest,
        "recipe": RECIPE,
        "same_camera": params.evaluate.same_camera,  # in the validation that may choose the epoch
        "torch": torch.__version__,
        "device": device,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def build_training(
    params: Params,
    data: TrainingData,
    spec: Mapping[str, Any],
    *,
    device: torch.device,
    run: Run,
    processes: Processes,
) -> Training:
    """Assemble a training from its parameters: data, seed, network, objective, optimizer."""
    batch, optimizer, rows = params.train.batch, params.train.optimizer, data.rows["train"]
    sampler = IdentitySampler(
        rows,
        identities=batch.identities,
        images=batch.images,
        seed=params.seed,
        sampling=batch.sampling,
        rank=processes.rank,
        world=processes.world,
    )
    height, width = data.train.shape[1:3]
    augmentation = build_augmentation(params.section("augment"), height=height, width=width)
    batches = TrainingBatches(data.train, rows, sampler, augmentation)
    workers = settings.workers(1 if device.type == "cpu" else min(8, settings.cores()))
    together = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    require_shared_memory(batches.batch_bytes, workers=workers * together)

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(params.seed)  # only the network's first weights are drawn from them
    network = build_network(spec).to(device)
    if params.train.sync_batch_norm and processes.world > 1:
        synchronise_batch_norm(network, device=device)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    validate = validator(params, data, device=device, processes=processes)
    if params.train.compile:
        compile_backbone(network)
        validate = not_compiled(validate)

    pretrained = network.backbone if params.model.weights != "none" else None
    schedule = Schedule(
        points=[(point.from_epoch, point.rate) for point in optimizer.schedule],
        warmup_epochs=optimizer.warmup_epochs,
        steps_per_epoch=params.train.steps_per_epoch or steps_per_epoch(rows, batch=sampler.size),
        warmup=optimizer.warmup,
    )
    return Training(
        params.train,
        network,
        Objective(params.section("loss"), params.section("synergy")),
        build_optimizer(network, optimizer.model_dump(), pretrained=pretrained),
        schedule,
        loader=lambda first, last: step_loader(
            batches, first=first, last=last, workers=workers, pinned=device.type == "cuda"
        ),
        validate=validate,
        recorder=run,
        processes=processes,
        graphs=settings.read_settings().cuda_graphs == "on",
    )


def validator(
    params: Params, data: TrainingData, *, device: torch.device, processes: Processes
) -> Callable[[Any], Mapping[str, float]]:
    """A function from the network to rank 0's figures on the validation identities; empty where there are none."""
    rows = data.rows["val"]
    images = Images(rows.identities, rows.cameras, rows.infrared, rows.paths)
    exclude = query_exclusion(params.download.dataset, same_camera=params.evaluate.same_camera)

    def run(network: MSCLNet) -> dict[str, float]:
        if not len(rows):
            return {}
        embed = partial(embed_images, network, batch=VALIDATION_BATCH, device=device)
        features = embed_together(embed, data.val, rows.infrared, batch=VALIDATION_BATCH, processes=processes)
        if features is None:
            return {}
        return validation_figures(features[1], images, feature="bnneck", exclude=exclude)

    return run


if __name__ == "__main__":
    run_stage(train, parallel=True)
