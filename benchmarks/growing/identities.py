"""What grows with the number of training identities."""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.growing.operation import Operation
from msclnet.images.sampler import IdentitySampler
from msclnet.images.table import Rows
from msclnet.losses.baseline import identity_loss
from msclnet.models.heads import BNNeck

AXIS = "identities"
SIZES = (100, 300, 1000, 3000, 10_000, 30_000)
PER_IDENTITY = 8  # images, half of them infrared
WIDTH, BATCH = 2048, 64


def rows_of(identities: int) -> Rows:
    """A training split with eight images of each identity."""
    count = identities * PER_IDENTITY
    cameras = np.resize([1, 2, 4, 5, 3, 6, 3, 6], count)
    return Rows(np.arange(count) // PER_IDENTITY, cameras, np.isin(cameras, (3, 6)), np.full(count, ""))


def sampler(rows: Rows) -> IdentitySampler:
    return IdentitySampler(rows, identities=8, images=4, seed=0)


def set_up() -> Operation:
    """The sampler looks at every image once."""

    def make(size: int) -> Callable[[], object]:
        rows = rows_of(size)
        return lambda: sampler(rows)

    return Operation(
        "setting up the sampler", AXIS, SIZES, make, note=f"{PER_IDENTITY} images of each identity"
    )


def draw() -> Operation:
    """One batch."""

    def make(size: int) -> Callable[[], object]:
        ready = sampler(rows_of(size))
        steps = iter(range(10**9))
        return lambda: ready.batch(next(steps))

    return Operation("drawing a batch", AXIS, SIZES, make)


def classify() -> Operation:
    """BNNeck, classifier and identity loss of a batch, forward and backward."""

    def make(size: int) -> Callable[[], object]:
        torch.manual_seed(0)
        neck = BNNeck(WIDTH, size)
        features = torch.randn(BATCH, WIDTH, requires_grad=True)
        labels = torch.arange(BATCH) % size

        def step() -> None:
            neck.zero_grad(set_to_none=True)
            identity_loss(neck(features)[1], labels).backward()

        return step

    return Operation(
        "classifier and identity loss", AXIS, SIZES, make, note=f"{BATCH} images, forward and backward"
    )


OPERATIONS = (set_up, draw, classify)
