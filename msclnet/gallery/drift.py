"""Whether a camera's newest images differ from those at the gallery's start: another scene, lens, light or channels.

By camera and in the order of time, the first N images are the reference, the next N are the start, the last N the
newest. Each image of the start and each of the newest is measured, its nearest neighbour always among the reference,
so that both come after it. Two samples of a measure are compared by the test of Kolmogorov and Smirnov, refused files
by Fisher's exact test, and the p-values are multiplied by their number (Bonferroni).

Both tests take the images for independent. Those of one person who walks past are not: the effect has to be large, too.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy import stats

from msclnet.gallery.schema import VECTOR, quoted
from msclnet.gallery.store import Gallery
from msclnet.images.decode import decode

MEASURES = ("similarity", "brightness", "colour", "sharpness")
REFUSALS = "refusals"
NEWEST = 100
FEWEST = 20  # images of a window; below, a test finds nothing
LARGEST_P = 0.01  # after the correction
# Kolmogorov and Smirnov's D; of refusals the difference of their shares.
SMALLEST_EFFECT = dict.fromkeys(MEASURES, 0.35) | {REFUSALS: 0.1}


@dataclass(frozen=True)
class Change:
    """One measure of one camera: start against newest.

    Attributes:
        camera, measure: Which.
        start, newest: Medians; of refusals their shares.
        effect: Distance of the two distributions, 0 to 1.
        p: Probability of such a distance without a change, times the number of tests, at most 1.
        fires: Whether p is small and the effect large.
    """

    camera: str
    measure: str
    start: float
    newest: float
    effect: float
    p: float
    fires: bool


@dataclass(frozen=True)
class Drift:
    """What a comparison found.

    Attributes:
        changes: Of all cameras and measures.
        left_out: Cameras with too few images: their number.
        window: Most images in a window.
    """

    changes: list[Change]
    left_out: dict[str, int]
    window: int

    @property
    def fires(self) -> bool:
        """Whether any measure of any camera has changed."""
        return any(change.fires for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "fires": self.fires}


class Sample(NamedTuple):
    """Measures of N images, each float (N,): cosine similarity to the nearest of the reference, mean grey level 0 to
    255, median of red minus blue, and standard deviation of the Laplacian."""

    similarity: np.ndarray
    brightness: np.ndarray
    colour: np.ndarray
    sharpness: np.ndarray


@dataclass
class _Stored:
    """One camera's images (id, time) and refused files (time)."""

    images: list[tuple[datetime, str]] = field(default_factory=list)
    refused: list[datetime] = field(default_factory=list)


def drift(gallery: Gallery, *, newest: int = NEWEST) -> Drift:
    """Compare each camera's newest images with those at the gallery's start.

    Args:
        gallery: Images without a time count by their file's.
        newest: Images in a window, 20 or more; a camera with fewer than three times as many has smaller ones.
    """
    stored = _by_camera(gallery)
    sizes = {camera: min(newest, len(found.images) // 3) for camera, found in stored.items()}
    watched = [camera for camera in sorted(stored) if sizes[camera] >= FEWEST]
    changes = [
        change for camera in watched for change in _changes(gallery, camera, stored[camera], sizes[camera])
    ]
    return Drift(
        changes=[_corrected(change, len(changes)) for change in changes],
        left_out={camera: len(stored[camera].images) for camera in stored if camera not in watched},
        window=newest,
    )


def measured(images: Sequence[np.ndarray], vectors_ND: np.ndarray, reference_RD: np.ndarray) -> Sample:
    """Measure images.

    Args:
        images: uint8 RGB (H, W, 3) each.
        vectors_ND: Their embeddings, L2-normalised.
        reference_RD: Those of the reference.
    """
    nearest_N = (vectors_ND.astype(np.float32) @ reference_RD.astype(np.float32).T).max(axis=1)
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    return Sample(
        similarity=nearest_N,
        brightness=np.array([image.mean() for image in grey]),
        # The median is the scene's more than the clothes'.
        colour=np.array(
            [np.median(np.subtract(image[..., 0], image[..., 2], dtype=np.int16)) for image in images]
        ),
        sharpness=np.array([cv2.Laplacian(image, cv2.CV_32F).std() for image in grey]),
    )


def compared(camera: str, start: Sample, newest: Sample) -> Iterator[Change]:
    """Each measure's change; p is not corrected yet, and nothing fires."""
    for name, before, after in zip(MEASURES, start, newest, strict=True):
        test: Any = stats.ks_2samp(before, after)
        medians = float(np.median(before)), float(np.median(after))
        yield Change(camera, name, *medians, float(test.statistic), float(test.pvalue), fires=False)


def compared_refusals(camera: str, start: tuple[int, int], newest: tuple[int, int]) -> Change:
    """The change of the share of refused files, from (refused, taken) of both windows."""
    shares = [refused / (refused + taken) for refused, taken in (start, newest)]
    test: Any = stats.fisher_exact([start, newest])
    return Change(
        camera, REFUSALS, *shares, effect=abs(shares[1] - shares[0]), p=float(test.pvalue), fires=False
    )


def _changes(gallery: Gallery, camera: str, stored: _Stored, size: int) -> Iterator[Change]:
    images = sorted(stored.images)
    windows = {"reference": images[:size], "start": images[size : 2 * size], "newest": images[-size:]}
    content = _content(gallery, [id for window in windows.values() for _, id in window])
    vectors = {name: np.stack([content[id][1] for _, id in window]) for name, window in windows.items()}
    start, newest = (
        measured([content[id][0] for _, id in windows[name]], vectors[name], vectors["reference"])
        for name in ("start", "newest")
    )
    yield from compared(camera, start, newest)
    refused = {}
    for name in ("start", "newest"):
        first, last = windows[name][0][0], windows[name][-1][0]
        # Nothing is newer than what was refused since the last image that was taken.
        last = datetime.max if name == "newest" else last
        refused[name] = sum(first <= time <= last for time in stored.refused)
    yield compared_refusals(camera, (refused["start"], size), (refused["newest"], size))


def _corrected(change: Change, tests: int) -> Change:
    p = min(1.0, change.p * tests)
    return replace(
        change,
        p=p,
        fires=p <= LARGEST_P and change.effect >= SMALLEST_EFFECT[change.measure],
    )


def _by_camera(gallery: Gallery) -> dict[str, _Stored]:
    found: dict[str, _Stored] = defaultdict(_Stored)
    for batch in gallery.batches(["id", "camera", "time", "modified"]):
        for row in batch.to_pylist():
            time = row["time"] or datetime(1970, 1, 1) + timedelta(microseconds=row["modified"] // 1000)
            found[row["camera"] or "unknown"].images.append((time, row["id"]))
    for row in gallery.refused():
        found[row["camera"] or "unknown"].refused.append(row["time"])
    return dict(found)


def _content(gallery: Gallery, ids: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels and embedding by id; only these are in memory."""
    found = {}
    for batch in gallery.batches(["id", "crop", VECTOR], f"id IN ({', '.join(map(quoted, ids))})"):
        for row in batch.to_pylist():
            found[row["id"]] = decode(row["crop"]).pixels, np.asarray(row[VECTOR], np.float32)
    return found
