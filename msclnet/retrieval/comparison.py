"""Two models on the same validation images: differences by direction, camera pair and brightness, with intervals.

What is compared are scores of single queries, which are stored with a model: neither its network nor an image is
needed again.

The intervals are a paired bootstrap over people: identities are drawn with replacement, each with all its queries, and
both models are scored on the same draws; percentile method. The galleries stay as they are.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
Axes: N images, D feature width, C cameras, I identities, R resamples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msclnet.retrieval.evaluation import score_trials, validation_protocols
from msclnet.retrieval.protocols import Exclusion, Images, Protocol

FILE = "validation.npz"  # next to a registered model's weights
RESAMPLES = 2000
LEVEL = 0.95
FEWEST_IDENTITIES = 5  # an interval over fewer people says nothing
THIRDS = ("dark", "medium", "bright")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ValidationScores:
    """A model's scores as each validation image queries the other modality; means over the drawn galleries.

    Scores are (N, 1 + C) in [0, 1], with the whole gallery in column 0 and with the images of one camera alone in the
    others; NaN for a query without a match there.
    """

    identities: NDArray[np.int64]  # (N,) of the validation images, each a query
    cameras: NDArray[np.int64]  # (N,)
    infrared: NDArray[np.bool_]  # (N,)
    brightness: Floats  # (N,) mean pixel value, 0 to 255
    gallery_cameras: NDArray[np.int64]  # (C,)
    rank1: Floats
    average_precision: Floats

    def save(self, path: Path) -> None:
        """Write the arrays as .npz, uncompressed."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> "ValidationScores":
        """Read what `save` wrote; OSError, ValueError or TypeError where it is missing or something else."""
        with np.load(path, allow_pickle=False) as file:
            return cls(**file)

    def of_same_images(self, other: "ValidationScores") -> bool:
        """Whether both are of the same images in the same order, as far as the labels show."""
        names = ("identities", "cameras", "infrared", "gallery_cameras")
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)


def validation_scores(
    features_ND: NDArray, images: Images, *, brightness: Floats, exclude: Exclusion | None
) -> ValidationScores:
    """Score every validation image as a query, in the galleries of the validation score."""
    cameras_C = np.unique(images.cameras)
    rank1, precision = np.full((2, len(images), 1 + len(cameras_C)), np.nan)
    for protocol in validation_protocols(images, exclude=exclude):
        for column, part in enumerate(_by_camera(protocol, images, cameras_C)):
            if part is None:
                continue
            trials = score_trials(features_ND, images, part)
            valid_Q = trials[0].first > 0
            rows = part.queries[valid_Q]
            rank1[rows, column] = np.mean([trial.first[valid_Q] == 1 for trial in trials], axis=0)
            precision[rows, column] = np.mean([trial.average_precision[valid_Q] for trial in trials], axis=0)
    return ValidationScores(
        images.identities, images.cameras, images.infrared, brightness, cameras_C, rank1, precision
    )


def _by_camera(protocol: Protocol, images: Images, cameras_C: NDArray[np.int64]) -> Iterator[Protocol | None]:
    """The protocol itself, then with the gallery images of each camera alone; None where it has none."""
    yield protocol
    for camera in cameras_C:
        galleries = tuple(gallery[images.cameras[gallery] == camera] for gallery in protocol.galleries)
        yield replace(protocol, galleries=galleries) if len(galleries[0]) else None


@dataclass(frozen=True)
class Interval:
    """A difference and the ends of its 95 % interval, which is None for too few people."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """Candidate against champion on some of the queries, in percent and points."""

    queries: int
    identities: int
    candidate: float  # mean of Rank-1 and mAP, as in the validation score
    champion: float
    score: Interval  # gain of the candidate, as the next two
    rank1: Interval
    mAP: Interval


def compare(candidate: ValidationScores, champion: ValidationScores) -> dict[str, Difference]:
    """Differences by slice: `all` first, then each direction, camera pair and third of brightness.

    `all` is the mean of the two directions, as the validation score is. Brightness has thirds of each modality's
    images.
    """
    return {
        name: _difference(candidate, champion, parts) for name, parts in _slices(candidate).items() if parts
    }


_Part = tuple[NDArray[np.int64], int]  # rows of queries, and the column of their scores


def _slices(scores: ValidationScores) -> dict[str, list[_Part]]:
    valid = ~np.isnan(scores.rank1)
    found: dict[str, list[_Part]] = {"all": []}
    for infrared, name in ((False, "visible"), (True, "infrared")):
        rows = np.flatnonzero((scores.infrared == infrared) & valid[:, 0])
        if len(rows):
            found["all"].append((rows, 0))
            found[f"{name} queries"] = [(rows, 0)]
            edges = np.quantile(scores.brightness[rows], (1 / 3, 2 / 3))
            third = np.searchsorted(edges, scores.brightness[rows])
            for number, word in enumerate(THIRDS):
                if (third == number).any():
                    found[f"{name} queries, {word}"] = [(rows[third == number], 0)]
    for camera in np.unique(scores.cameras):
        for column, other in enumerate(scores.gallery_cameras, start=1):
            rows = np.flatnonzero((scores.cameras == camera) & valid[:, column])
            if len(rows):
                found[f"camera {camera} searches camera {other}"] = [(rows, column)]
    return found


def _difference(a: ValidationScores, b: ValidationScores, parts: Sequence[_Part]) -> Difference:
    def of(scores: ValidationScores) -> Mapping[str, list[Floats]]:
        rank1 = [100 * scores.rank1[rows, column] for rows, column in parts]
        precision = [100 * scores.average_precision[rows, column] for rows, column in parts]
        both = [(x + y) / 2 for x, y in zip(rank1, precision, strict=True)]
        return {"score": both, "rank1": rank1, "mAP": precision}

    def mean(values: Sequence[Floats]) -> float:
        return float(np.mean([part.mean() for part in values]))

    own, theirs = of(a), of(b)
    people = [a.identities[rows] for rows, _ in parts]
    intervals = {
        name: bootstrap([x - y for x, y in zip(own[name], theirs[name], strict=True)], people) for name in own
    }
    return Difference(
        queries=sum(len(rows) for rows, _ in parts),
        identities=len(np.unique(np.concatenate(people))),
        candidate=mean(own["score"]),
        champion=mean(theirs["score"]),
        **intervals,
    )


def bootstrap(
    differences: Sequence[Floats],
    identities: Sequence[NDArray[np.int64]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean over the parts of the mean difference in each, with its interval over resampled people.

    A person may be in several parts and is drawn for all of them at once.
    """
    value = float(np.mean([part.mean() for part in differences]))
    people_I, codes = np.unique(np.concatenate(identities), return_inverse=True)
    if len(people_I) < FEWEST_IDENTITIES:
        return Interval(value, None, None)
    generator = np.random.default_rng(seed)
    share_I = np.full(len(people_I), 1 / len(people_I))
    drawn_RI = generator.multinomial(len(people_I), share_I, size=resamples).astype(np.float64)
    means = []
    for part, code in zip(differences, np.split(codes, np.cumsum([*map(len, identities)])[:-1]), strict=True):
        sums_I = np.bincount(code, part, len(people_I))
        counts_I = np.bincount(code, minlength=len(people_I))
        with np.errstate(invalid="ignore"):  # a draw may hold no identity of a part
            means.append(drawn_RI @ sums_I / (drawn_RI @ counts_I))
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(np.mean(means, axis=0), (tail, 1 - tail))
    return Interval(value, float(low), float(high))
