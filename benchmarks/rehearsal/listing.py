"""Which images SYSU-MM01 has: everybody's number, cameras and number of images, in the published totals."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Cells = Mapping[tuple[int, int], int]
"""(identity, camera) -> number of images"""

NUMBERS = range(1, 534)  # the folders' names; twenty of them are not used
SPLITS = ("train", "val", "test")


class Group(NamedTuple):
    """People seen by the same cameras, and how many images of all of them each camera has."""

    identities: int
    images: Mapping[int, int]


# Totals by split and modality are the published ones. How they are shared out is made up, except that the test part
# keeps the published totals of each camera, and 54 and 56 people whom cameras 3 and 6 can find indoors: these have
# 1,088 and 1,120 infrared images, the 2,208 valid queries of indoor search.
GROUPS: Mapping[str, Sequence[Group]] = {
    "train": (
        Group(200, {1: 4850, 2: 5800, 3: 4009, 4: 3850, 5: 3864, 6: 4000}),
        Group(96, {3: 1920, 4: 960, 5: 960}),
    ),
    "val": (Group(99, {3: 1980, 4: 987, 5: 987}),),
    "test": (
        Group(54, {1: 1325, 2: 1509, 3: 1088, 4: 1102, 5: 1091, 6: 1080}),
        Group(2, {1: 49, 2: 56, 4: 41, 5: 41, 6: 40}),
        Group(36, {3: 735, 4: 735, 5: 726, 6: 720}),
        Group(2, {3: 40, 5: 40, 6: 40}),
        Group(1, {3: 20, 4: 20, 6: 20}),
        Group(1, {4: 20, 5: 20, 6: 20}),
    ),
    # On disk and in no list.
    "unlisted": (Group(4, {3: 80, 4: 89, 5: 89}), Group(18, {4: 430, 5: 430})),
}


@dataclass(frozen=True)
class Listing:
    """A data set of SYSU-MM01's kind.

    Attributes:
        identities: Numbers of the people in each list of `exp`: train, val, test.
        cells: Images on disk, those of people in no list included.
    """

    identities: Mapping[str, Sequence[int]]
    cells: Cells

    @property
    def size(self) -> int:
        """Number of images."""
        return sum(self.cells.values())


def full_listing(test: Cells | None = None) -> Listing:
    """SYSU-MM01 at its real counts: 513 people, 491 of them in the lists, 45,863 images.

    Args:
        test: The test part image by image, where it is known; None: one with the same totals.
    """
    return build_listing(GROUPS, test=test)


def build_listing(groups: Mapping[str, Sequence[Group]], *, test: Cells | None = None) -> Listing:
    """Give everybody in the groups a number; the same groups give the same numbers.

    Args:
        groups: Of the train, val and test lists and of `unlisted`.
        test: Takes the place of the test groups.
    """
    taken = {identity for identity, _ in test or {}}
    free = [number for number in NUMBERS if number not in taken]
    numbers = iter(random.Random(0).sample(free, len(free)))
    identities: dict[str, list[int]] = {}
    cells: dict[tuple[int, int], int] = {}
    for split, members in groups.items():
        if split == "test" and test is not None:
            identities[split] = sorted(taken)
            cells |= test
            continue
        identities[split] = []
        for group in members:
            people = [next(numbers) for _ in range(group.identities)]
            identities[split] += people
            cells |= _shared_out(group, people)
    return Listing(
        {split: sorted(identities[split]) for split in SPLITS}, {cell: cells[cell] for cell in sorted(cells)}
    )


def _shared_out(group: Group, people: Sequence[int]) -> Iterable[tuple[tuple[int, int], int]]:
    """As evenly as whole images allow."""
    for camera, total in group.images.items():
        each, more = divmod(total, len(people))
        for place, identity in enumerate(people):
            yield (identity, camera), each + (place < more)
