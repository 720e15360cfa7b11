"""Batches as the training gets them: what belongs together stays together, whoever makes them."""

import os
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from msclnet.images.augmentation import FILL, build_augmentation
from msclnet.images.batches import PairBatch, TrainingBatches, step_loader
from msclnet.images.sampler import IdentitySampler
from msclnet.images.table import Rows

HEIGHT, WIDTH = 24, 12
IDENTITIES, CAMERAS, IMAGES = (3, 17, 5, 40, 9), (1, 2, 3, 6), 3
COUNT = len(IDENTITIES) * len(CAMERAS) * IMAGES


def training_rows() -> Rows:
    order = np.random.default_rng(0).permutation(COUNT)
    return Rows(
        identities=np.repeat(IDENTITIES, len(CAMERAS) * IMAGES)[order].astype(np.int64),
        cameras=np.tile(np.repeat(CAMERAS, IMAGES), len(IDENTITIES))[order].astype(np.int64),
        infrared=np.isin(np.tile(np.repeat(CAMERAS, IMAGES), len(IDENTITIES))[order], (3, 6)),
        paths=np.array([f"{i}.jpg" for i in range(COUNT)]),
    )


ROWS = training_rows()


def telling_images() -> np.ndarray:
    """The whole of image i has the colour (i, identity, camera)."""
    images = np.empty((COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for i in range(COUNT):
        images[i] = (i, ROWS.identities[i], ROWS.cameras[i])
    return images


def batches_of(
    images: np.ndarray,
    *,
    augmented: bool,
    seed: int = 5,
    rank: int = 0,
    world: int = 1,
    size: tuple[int, int] = (4, 2),
) -> TrainingBatches:
    augment: dict[str, Any] = {
        "padding": 4 if augmented else 0,
        "flip": 0.5 if augmented else 0.0,
        "channel_exchange": 0.5 if augmented else 0.0,
        "erasing": {"probability": 0.5 if augmented else 0.0, "area": [0.02, 0.4], "ratio": [0.3, 3.3]},
    }
    sampler = IdentitySampler(ROWS, identities=size[0], images=size[1], seed=seed, rank=rank, world=world)
    return TrainingBatches(images, ROWS, sampler, build_augmentation(augment, height=HEIGHT, width=WIDTH))


def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, size=(COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)


def test_pixels_labels_and_cameras_belong_together() -> None:
    batches = batches_of(telling_images(), augmented=False)
    place = {identity: label for label, identity in enumerate(sorted(IDENTITIES))}
    for step in range(20):
        batch, rows = batches[step], batches.sampler.batch(step)
        assert batch.visible[:, 0, 0, 0].tolist() == rows[0].tolist()
        assert batch.infrared[:, 0, 0, 0].tolist() == rows[1].tolist()
        for images, cameras, infrared in (
            (batch.visible, batch.cameras_visible, False),
            (batch.infrared, batch.cameras_infrared, True),
        ):
            assert images.dtype == torch.uint8
            assert images.shape == (8, HEIGHT, WIDTH, 3)
            assert batch.labels.dtype == cameras.dtype == torch.int64
            assert (images == images[:, :1, :1]).all()
            for i, (row, identity, camera) in enumerate(images[:, 0, 0].tolist()):
                assert (ROWS.identities[row], ROWS.cameras[row]) == (identity, camera)
                assert bool(ROWS.infrared[row]) == infrared
                assert batch.labels[i] == place[identity]
                assert cameras[i] == camera


def same(one: PairBatch, other: PairBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_step_has_the_same_bytes_whoever_makes_it(workers: int) -> None:
    images = noise()
    alone = {step: batches_of(images, augmented=True)[step] for step in (9, 5, 7, 6, 8, 4, 3, 2)}
    for first in (2, 6):
        loader = step_loader(
            batches_of(images, augmented=True), first=first, last=10, workers=workers, pinned=False
        )
        made = list(loader)
        assert len(made) == 10 - first
        for step, batch in enumerate(made, start=first):
            assert same(batch, alone[step]), step


@pytest.mark.parametrize("world", [2, 4])
def test_shares_of_the_processes_make_up_the_whole_augmentation_included(world: int) -> None:
    """Whoever augments an image, it looks as in the batch of one process."""
    images = noise()
    whole = batches_of(images, augmented=True)
    shares = [batches_of(images, augmented=True, rank=rank, world=world) for rank in range(world)]
    for step in range(20):
        parts = [vars(share[step]) for share in shares]
        for name, values in vars(whole[step]).items():
            assert torch.equal(torch.cat([part[name] for part in parts]), values), (step, name)


def test_the_world_outside_does_not_matter() -> None:
    images = noise()
    torch.manual_seed(0)
    np.random.seed(0)
    one = batches_of(images, augmented=True)[3]
    torch.manual_seed(1)
    np.random.seed(os.getpid() % 2**32)
    assert same(one, batches_of(images, augmented=True)[3])


def test_steps_and_seeds_differ() -> None:
    images = telling_images()
    images[:] = noise()[0]  # all images alike: only the augmentation can tell steps apart
    drawn = [batches_of(images, augmented=True, seed=seed)[step] for seed in (5, 6) for step in range(5)]
    assert len({batch.visible.numpy().tobytes() for batch in drawn}) == 10
    both = torch.cat([drawn[0].visible, drawn[0].infrared])
    assert len({image.numpy().tobytes() for image in both}) > 12  # of 16, each augmented in its own way


def test_flipping_says_nothing_of_erasing() -> None:
    """For the first image of each batch too, where all random numbers are fresh from the seed."""
    images = np.empty((COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    images[:, :, : WIDTH // 2], images[:, :, WIDTH // 2 :] = 10, 20
    batches = batches_of(images, augmented=True, size=(1, 1))
    table = np.zeros((2, 2), dtype=int)
    for step in range(300):
        first = batches[step].visible[0].numpy()
        bright = (first == 20).all(axis=2).sum(axis=0)
        dark = (first == 10).all(axis=2).sum(axis=0)
        centre = [
            np.average(np.arange(WIDTH), weights=side) if side.any() else None for side in (dark, bright)
        ]
        if centre[0] is None or centre[1] is None:
            continue
        table[int(centre[0] > centre[1]), int((first == FILL).all(axis=2).any())] += 1
    assert table.sum() > 250
    chance = float(stats.fisher_exact(table)[1])  # pyright: ignore[reportArgumentType]
    assert chance > 0.001, table


def test_a_worker_shares_its_batch_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a full /dev/shm is an error of the worker, not of a thread whose error nobody gets."""
    batches = batches_of(noise(), augmented=False)
    assert batches.batch_bytes == sum(images.nbytes for images in (batches[0].visible, batches[0].infrared))
    assert not any(tensor.is_shared() for tensor in vars(batches[0]).values())
    monkeypatch.setattr("msclnet.images.batches.get_worker_info", object)
    assert all(tensor.is_shared() for tensor in vars(batches[0]).values())
