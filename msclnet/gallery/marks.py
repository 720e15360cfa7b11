"""From marks of pairs to labelled images: a table that training on own data reads."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from msclnet.errors import UserError
from msclnet.gallery.schema import Mark


def marked_identities(marks: Sequence[Mark], known: Mapping[str, str]) -> dict[str, str]:
    """The identity of every marked image: images that marks of the same person join, directly or not, share one.

    Args:
        marks: Of pairs.
        known: Identities that the gallery has, by image.

    Returns:
        By image, in the order of the marks: the known identity of those it is joined with, or else `person-N`.

    Raises:
        UserError: Marks contradict each other or the known identities.
    """
    images = list(dict.fromkeys(image for mark in marks for image in (mark.query, mark.image)))
    place = {image: number for number, image in enumerate(images)}
    same = [(place[mark.query], place[mark.image]) for mark in marks if mark.same]
    rows, columns = np.array(same, int).reshape(-1, 2).T
    joined = coo_array((np.ones(len(same)), (rows, columns)), shape=(len(images),) * 2)
    count, group_of = connected_components(joined, directed=False)
    for mark in marks:
        if not mark.same and group_of[place[mark.query]] == group_of[place[mark.image]]:
            raise UserError(
                f"{mark.query} and {mark.image} are marked as different people, but marks of the same person join "
                "them; remove one of these marks"
            )
    names = [f"person-{number}" for number in range(1, count + 1)]
    first: dict[int, str] = {}
    for image in filter(known.__contains__, images):
        group = int(group_of[place[image]])
        if known[first.setdefault(group, image)] != known[image]:
            raise UserError(
                f"{first[group]} and {image} have the identities {known[first[group]]!r} and {known[image]!r} in the "
                "gallery, but marks of the same person join them; remove one of these marks"
            )
        names[group] = known[image]
    return {image: names[group_of[place[image]]] for image in images}
