"""Who appears in which split, before which camera, and how often."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from msclnet.datasets.records import SPLITS, Split
from msclnet.synthetic.camera import CAMERAS, INFRARED_CAMERAS, VISIBLE_CAMERAS
from msclnet.synthetic.identity import COUNT_STREAM


@dataclass(frozen=True)
class ImageCounts:
    """How many pictures each identity has before each camera.

    Attributes:
        train: Of a training identity, >= 1.
        val: Of a validation identity, >= 1.
        test: Of most test identities, >= 1.
        test_many: Of the other test identities, >= 1: ten or more make a multi-shot gallery of ten real.
        many_share: Share of those others, 0..1.
        absent: Probability that an identity never passes a camera, 0..1. One visible and one infrared camera
            (two visible ones outside training) always see it.
    """

    train: int
    val: int
    test: int
    test_many: int
    many_share: float
    absent: float

    def __post_init__(self) -> None:
        if min(self.train, self.val, self.test, self.test_many) < 1:
            raise ValueError(f"every identity needs at least one picture a camera: {self}")
        if not (0 <= self.many_share <= 1 and 0 <= self.absent <= 1):
            raise ValueError(f"shares and probabilities lie between 0 and 1: {self}")


@dataclass(frozen=True)
class Appearance:
    """One identity of the data set.

    Attributes:
        identity: Its number, >= 1.
        split: Where it belongs.
        counts: Pictures by camera; a camera that never sees it is missing.
    """

    identity: int
    split: Split
    counts: Mapping[int, int]


def _cameras(rng: np.random.Generator, absent: float, split: Split) -> list[int]:
    """Draws the cameras that see an identity."""
    seen = {camera for camera in CAMERAS if rng.random() >= absent}
    for kind, least in ((VISIBLE_CAMERAS, 1 if split == "train" else 2), (INFRARED_CAMERAS, 1)):
        missing = [camera for camera in kind if camera not in seen]
        lacking = least - (len(kind) - len(missing))
        if lacking > 0:
            seen.update(int(camera) for camera in rng.choice(missing, lacking, replace=False))
    return sorted(seen)


def plan(*, seed: int, identities: Mapping[Split, int], images: ImageCounts) -> list[Appearance]:
    """Decides who appears where.

    Args:
        seed: Seed of the data set, >= 0.
        identities: How many identities each split has; a missing split has none. No identity is in two splits.
        images: How many pictures they have.

    Returns:
        One entry for each identity, in the order of their numbers, which start at 1.
    """
    splits: list[Split] = [split for split in SPLITS for _ in range(identities.get(split, 0))]
    rng = np.random.default_rng([COUNT_STREAM, seed])
    order = rng.permutation(len(splits))
    tests = [place for place in order if splits[place] == "test"]
    many = set(tests[: round(images.many_share * len(tests))])
    planned = []
    for identity, place in enumerate(order, start=1):
        split = splits[place]
        count = {"train": images.train, "val": images.val, "test": images.test}[split]
        if place in many:
            count = images.test_many
        planned.append(Appearance(identity, split, dict.fromkeys(_cameras(rng, images.absent, split), count)))
    return planned
