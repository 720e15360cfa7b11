"""Which images make up which training batch."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from msclnet.data.manifest import Rows
from msclnet.errors import UserError

SAMPLINGS = ("random", "two_per_camera")


class IdentitySampler:
    """Batches of P identities with K visible and K infrared images each.

    Stateless: batch `step` of the run depends on the seed and on `step` alone, whatever was drawn before and
    by however many processes, so that a resumed run sees the very batches it would have seen.

    Args:
        rows: The training split.
        identities: P.
        images: K, of each modality; drawn without replacement where the identity has as many.
        seed: Any.
        sampling: `random`, or `two_per_camera`: two images from each of K / 2 cameras (cameras repeat where an
            identity has fewer), so that sub-classes are no singletons.
        rank: This process.
        world: Number of processes; each gets the whole batches of P / world identities.

    Attributes:
        identities: Those that can be trained on, in label order.
        size: P K, the images of each modality in the batch of all processes.
        places: Where this process's images stand among them.

    Raises:
        UserError: There are fewer identities than P with images in both modalities, or P is no multiple of
            the number of processes.
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
        self._rows_of = {
            modality: _rows_by_identity_and_camera(rows, infrared=modality == "infrared")
            for modality in ("visible", "infrared")
        }
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
            (self._draw(self._rows_of["visible"][i], rng), self._draw(self._rows_of["infrared"][i], rng))
            for i in chosen
        ]
        visible, infrared = zip(*pairs[self._share], strict=True)
        return np.concatenate(visible), np.concatenate(infrared)

    def _draw(self, by_camera: Mapping[int, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        if self.sampling == "random":
            return _choose(np.concatenate(list(by_camera.values())), self.images, rng)
        cameras = _choose(np.array(list(by_camera)), self.images // 2, rng)
        times = Counter(cameras.tolist())
        return np.concatenate([_choose(by_camera[camera], 2 * n, rng) for camera, n in times.items()])


def paired_identities(rows: Rows) -> np.ndarray:
    """Identities with images in both modalities, sorted: those that can be trained on, in label order."""
    return np.intersect1d(rows.identities[rows.infrared], rows.identities[~rows.infrared])


def steps_per_epoch(rows: Rows, *, batch: int) -> int:
    """ceil(max(visible images, infrared images) / batch), with `batch` images of each modality in a step."""
    infrared = int(rows.infrared.sum())
    return -(-max(infrared, len(rows) - infrared) // batch)


def _choose(values: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(values, size=count, replace=len(values) < count)


def _rows_by_identity_and_camera(rows: Rows, *, infrared: bool) -> dict[int, dict[int, np.ndarray]]:
    found: dict[int, dict[int, list[int]]] = {}
    for row in np.flatnonzero(rows.infrared == infrared):
        found.setdefault(int(rows.identities[row]), {}).setdefault(int(rows.cameras[row]), []).append(
            int(row)
        )
    return {
        identity: {camera: np.array(at) for camera, at in sorted(cameras.items())}
        for identity, cameras in found.items()
    }
