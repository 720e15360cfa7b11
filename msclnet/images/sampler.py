"""Chooses the images of each training batch."""

from collections import Counter

import numpy as np

from msclnet.errors import UserError
from msclnet.images.table import Rows

SAMPLINGS = ("random", "replacement", "two_per_camera")


class IdentitySampler:
    """Batches of P `identities` with K visible and K infrared `images` each.

    Stateless: batch `step` of the run depends on the seed and on `step` alone, independent of earlier draws and of
    the number of processes, so that a resumed run sees the same batches. Each of `world` processes gets the whole
    batches of P / world identities.

    Samplings: `random`: without replacement where the identity has as many images. `replacement`: each image is drawn
    from all of the identity's, as AGW's public code does. `two_per_camera`: two images from each of K / 2 cameras
    (cameras repeat where an identity has fewer), so that sub-classes are no singletons.

    Attributes:
        identities: Those that can be trained on, in label order.
        size: P K, the images of each modality in the batch of all processes.
        places: Where this process's images stand among them.

    Raises:
        UserError: Fewer than P identities have images in both modalities, or P is no multiple of the processes.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        identities: int,
        images: int,
        seed: int,
        sampling: str = "random",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling must be one of {SAMPLINGS}, not {sampling!r}")
        if identities % world:
            raise UserError(
                f"train.batch.identities is {identities}, which {world} processes cannot share; make it a multiple"
            )
        self._visible, self._infrared = (
            _RowsOfIdentities(rows, infrared=infrared) for infrared in (False, True)
        )
        self.identities = paired_identities(rows)
        if len(self.identities) < identities:
            raise UserError(
                f"train.batch.identities is {identities}, but only {len(self.identities)} training identities have "
                "images in both modalities; make it smaller"
            )
        self.images = images
        self.size = identities * images
        self.seed = seed
        self.sampling = sampling
        self._batch = identities
        self._share = slice(rank * identities // world, (rank + 1) * identities // world)
        self.places = range(self._share.start * images, self._share.stop * images)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the visible and of the infrared images of one batch, (P K,) each.

        The i-th visible and the i-th infrared row show the same identity; an identity's rows are neighbours.
        """
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.choice(self.identities, size=self._batch, replace=False)
        pairs = [
            (self._draw(*self._visible[identity], rng), self._draw(*self._infrared[identity], rng))
            for identity in chosen
        ]
        visible, infrared = zip(*pairs[self._share], strict=True)
        return np.concatenate(visible), np.concatenate(infrared)

    def _draw(self, rows: np.ndarray, cameras: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.sampling == "random":
            return _choose(rows, self.images, rng)
        if self.sampling == "replacement":
            return rng.choice(rows, size=self.images)
        times = Counter(_choose(np.unique(cameras), self.images // 2, rng).tolist())
        return np.concatenate([_choose(rows[cameras == camera], 2 * n, rng) for camera, n in times.items()])


def paired_identities(rows: Rows) -> np.ndarray:
    """Identities with images in both modalities, sorted: those that can be trained on, in label order."""
    return np.intersect1d(rows.identities[rows.infrared], rows.identities[~rows.infrared])


def steps_per_epoch(rows: Rows, *, batch: int) -> int:
    """ceil(max(visible images, infrared images) / batch), with `batch` images of each modality in a step."""
    infrared = int(rows.infrared.sum())
    return -(-max(infrared, len(rows) - infrared) // batch)


def _choose(values: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(values, size=count, replace=len(values) < count)


class _RowsOfIdentities:
    """Rows of one modality, found by identity; one sorted array serves millions of images."""

    def __init__(self, rows: Rows, *, infrared: bool) -> None:
        at = np.flatnonzero(rows.infrared == infrared)
        self._rows = at[np.lexsort((rows.cameras[at], rows.identities[at]))]
        self._cameras = rows.cameras[self._rows]
        self._identities, starts = np.unique(rows.identities[self._rows], return_index=True)
        self._bounds = np.append(starts, len(self._rows))

    def __getitem__(self, identity: int) -> tuple[np.ndarray, np.ndarray]:
        place = np.searchsorted(self._identities, identity)
        share = slice(self._bounds[place], self._bounds[place + 1])
        return self._rows[share], self._cameras[share]
