"""A whole training in a second: the real network, losses, sampler and augmentation, all as small as they go."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msclnet.embedding import embed_images
from msclnet.images.augmentation import build_augmentation
from msclnet.images.batches import TrainingBatches, step_loader
from msclnet.images.sampler import IdentitySampler
from msclnet.images.table import Rows
from msclnet.losses.objective import Objective
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from msclnet.training.checkpoint import CheckpointFolder
from msclnet.training.loop import Recorder, Training
from msclnet.training.optimizer import Schedule, build_optimizer
from pipelines.stages.presets import preset_params

ROOT = Path(__file__).resolve().parents[2]
PARAMS = preset_params("smoke", ROOT)
HEIGHT, WIDTH = 64, 32
EPOCHS, STEPS = 4, 3
IDENTITIES, CAMERAS, IMAGES = 5, (1, 2, 3, 6), 2
TIMINGS = ("images_per_second", "share_waiting_for_input", "seconds_left")
SPEC = {"identities": IDENTITIES, "model": PARAMS.section("model"), "synergy": PARAMS.section("synergy")}


def rows() -> Rows:
    count = IDENTITIES * len(CAMERAS) * IMAGES
    cameras = np.tile(np.repeat(CAMERAS, IMAGES), IDENTITIES)
    return Rows(
        identities=np.repeat(np.arange(IDENTITIES), len(CAMERAS) * IMAGES).astype(np.int64),
        cameras=cameras.astype(np.int64),
        infrared=np.isin(cameras, (3, 6)),
        paths=np.array([f"{i}.jpg" for i in range(count)]),
    )


def pixels() -> np.ndarray:
    shape = (len(rows()), HEIGHT, WIDTH, 3)
    return np.random.default_rng(8).integers(0, 256, size=shape, dtype=np.uint8)


def seeded_network() -> MSCLNet:
    torch.manual_seed(1)
    return build_network(SPEC)


def load(first: int, last: int) -> Any:
    """Batches of steps first to last - 1, made in this process."""
    sampler = IdentitySampler(rows(), identities=4, images=2, seed=3)
    augmentation = build_augmentation(PARAMS.section("augment"), height=HEIGHT, width=WIDTH)
    batches = TrainingBatches(pixels(), rows(), sampler, augmentation)
    return step_loader(batches, first=first, last=last, workers=0, pinned=False)


def validate(network: MSCLNet) -> dict[str, float]:
    """Some figure that depends on every weight that testing uses."""
    device = next(network.parameters()).device
    _, vectors = embed_images(network, pixels()[:6], rows().infrared[:6], batch=6, device=device)
    return {"score": float(np.abs(vectors).mean()), "spread": float(vectors.std())}


Report = Callable[[Mapping[str, float], int], Any]


class FolderRecorder(Recorder):
    """Writes checkpoints to a folder and hands each epoch's figures to a function."""

    def __init__(self, folder: Path, report: Report = lambda row, epoch: None) -> None:
        self.checkpoints = CheckpointFolder(folder)
        self.call = report

    def save(self, state: Mapping[str, Any], *, epoch: int, step: int = 0) -> None:
        self.checkpoints.save(state, epoch=epoch, step=step)

    def report(self, history: Sequence[Mapping[str, float]]) -> None:
        self.call(history[-1], len(history))


def make_training(folder: Path, **changes: Any) -> Training:
    """A training as its stage builds one; `changes` replace the section's values or arguments of Training."""
    network = changes.pop("network", None) or seeded_network()
    section = {
        "epochs": EPOCHS,
        "precision": "fp32",
        "validate_every": 2,
        "gradients_every": 3,
        "norm_limit": 1e4,
        "weight_average": 0.9,
        "keep": "last",
    }
    section |= {name: changes.pop(name) for name in list(changes) if name in section}
    steps = changes.pop("steps_per_epoch", STEPS)
    if "report" in changes:
        changes["recorder"] = FolderRecorder(folder, changes.pop("report"))
    arguments: dict[str, Any] = {
        "section": SimpleNamespace(**section),
        "network": network,
        "objective": Objective(PARAMS.section("loss"), PARAMS.section("synergy")),
        "optimizer": build_optimizer(network, PARAMS.train.optimizer.model_dump(), pretrained=None),
        "schedule": Schedule(points=((1, 0.05), (3, 0.01)), warmup_epochs=1.0, steps_per_epoch=steps),
        "loader": load,
        "validate": validate,
    }
    if "recorder" not in changes:
        arguments["recorder"] = FolderRecorder(folder)
    return Training(**(arguments | changes))


def resumed(folder: Path, **changes: Any) -> Training:
    """The training that a new process would go on with."""
    found = CheckpointFolder(folder).load_latest()
    torch.manual_seed(99)  # what the network starts from must not matter
    network = build_network(SPEC).to(changes.pop("device", "cpu")) if found else None
    training = make_training(folder, network=network, **changes)
    if found:
        training.resume(found)
    return training


def without_timings(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name not in TIMINGS} for row in history]


def equal_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def at(epoch: int, act: Callable[[], Any]) -> Callable[[Mapping[str, float], int], None]:
    """A report that acts after one epoch."""

    def report(_: Mapping[str, float], reported: int) -> None:
        if reported == epoch:
            act()

    return report
