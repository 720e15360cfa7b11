"""Marks of pairs: kept next to the images, and turned into labelled images that training on own data reads."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.table import LanceTable
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from msclnet.errors import UserError
from msclnet.gallery.schema import MARK_COLUMNS, Mark, quoted


class Marks:
    """A gallery's table of marks. Threads may share it."""

    def __init__(self, table: LanceTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.count_rows()

    def set(self, query: str, image: str, same: bool, *, query_image: bytes | None = None) -> None:
        """Keep a person's judgement of a pair; a later one of the same pair takes its place.

        Args:
            query: id of an image of the gallery, or a name of an uploaded query: the same for the same pixels.
            image: id of the gallery's image.
            same: Whether both show one person.
            query_image: An uploaded query as the network saw it, an image file; needed to train on the mark.
        """
        row = {
            "query": query,
            "image": image,
            "same": same,
            "marked": datetime.now(UTC).replace(tzinfo=None),
            "query_image": query_image,
        }
        (
            self._table.merge_insert(["query", "image"])
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute(pa.Table.from_pylist([row], schema=MARK_COLUMNS))
        )

    def remove(self, query: str, image: str) -> None:
        """Remove the judgement of a pair, where there is one, and with it an uploaded query that has no other."""
        self._table.delete(f"query = {quoted(query)} AND image = {quoted(image)}")

    def all(self) -> list[Mark]:
        """All marks, the oldest first."""
        rows = self._rows("query", "image", "same", "marked")
        return sorted((Mark(**row) for row in rows), key=lambda mark: mark.marked)

    def query_images(self) -> dict[str, bytes]:
        """The uploaded queries of all marks, image files by their names."""
        rows = self._rows("query", "query_image")
        return {row["query"]: row["query_image"] for row in rows if row["query_image"]}

    def _rows(self, *columns: str) -> list[dict[str, Any]]:
        return self._table.search().select(list(columns)).to_arrow().to_pylist()


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
