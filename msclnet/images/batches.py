"""Whole training batches of uint8 images; they become floats on the device."""

from dataclasses import dataclass

import albumentations as A
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from msclnet.images.augmentation import seed_steps, skip_image
from msclnet.images.sampler import IdentitySampler
from msclnet.images.table import Rows
from msclnet.worker_processes import PREFETCHED, begin_worker, use_short_socket_paths

# A batch takes seconds; without a bound, the training would wait for a lost one without end.
LOST_AFTER_SECONDS = 600


@dataclass(frozen=True)
class PairBatch:
    """N pairs; the i-th visible and the i-th infrared image show the same identity."""

    visible: Tensor  # uint8 RGB (N, H, W, 3)
    infrared: Tensor  # uint8 RGB (N, H, W, 3)
    labels: Tensor  # int64 (N,): the identity's place among the sorted training identities
    cameras_visible: Tensor  # int64 (N,)
    cameras_infrared: Tensor  # int64 (N,)

    def pin_memory(self) -> "PairBatch":
        """The same in page-locked memory, from which a GPU copies while it computes; DataLoader calls it."""
        return PairBatch(**{name: tensor.pin_memory() for name, tensor in vars(self).items()})


class TrainingBatches(Dataset[PairBatch]):
    """Item i is the batch of step i, of any epoch.

    An image's augmentation is seeded by the sampler's seed, the step and the image's place in the batch of all
    processes, whichever process computes it.
    """

    def __init__(
        self, images: np.ndarray, rows: Rows, sampler: IdentitySampler, augmentation: A.Compose
    ) -> None:
        self.images = images
        self.rows = rows
        self.sampler = sampler
        self.augmentation = augmentation
        self.label_of = {int(identity): label for label, identity in enumerate(sampler.identities)}

    def __getitem__(self, step: int) -> PairBatch:
        visible, infrared = self.sampler.batch(step)
        # Another stream of random numbers than the sampler's, and another one for each step.
        seed = np.random.SeedSequence([self.sampler.seed, step, 1]).generate_state(1)[0]
        seed_steps(self.augmentation, int(seed))
        labels = [self.label_of[int(identity)] for identity in self.rows.identities[visible]]
        batch = PairBatch(
            visible=self._load(visible),
            infrared=self._load(infrared),
            labels=torch.tensor(labels),
            cameras_visible=torch.from_numpy(self.rows.cameras[visible]),
            cameras_infrared=torch.from_numpy(self.rows.cameras[infrared]),
        )
        if get_worker_info() is not None:
            # Otherwise a thread shares it, whose error would lose the batch silently.
            for tensor in vars(batch).values():
                tensor.share_memory_()
        return batch

    @property
    def batch_bytes(self) -> int:
        """Bytes of the images of a batch."""
        return 2 * len(self.sampler.places) * int(np.prod(self.images.shape[1:]))

    def _load(self, rows: np.ndarray) -> Tensor:
        """Rows of one modality; random numbers are drawn for those of the other processes too."""
        places, shape = self.sampler.places, self.images.shape[1:]
        out = np.empty((len(rows), *shape), dtype=np.uint8)
        for place in range(self.sampler.size):
            if place in places:
                i = place - places.start
                out[i] = self.augmentation(image=self.images[rows[i]])["image"]
            else:
                skip_image(self.augmentation, shape)
        return torch.from_numpy(out)


def step_loader(batches: TrainingBatches, *, first: int, last: int, workers: int, pinned: bool) -> DataLoader:
    """Batches of steps first to last - 1, in order, made by `workers` processes (0: in this one)."""
    if workers:
        use_short_socket_paths()
    return DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        pin_memory=pinned,
        prefetch_factor=PREFETCHED if workers else None,
        timeout=LOST_AFTER_SECONDS if workers else 0,
        worker_init_fn=begin_worker if workers else None,
    )
