"""The index of a large gallery: LanceDB's, built on request, and measured against the exact search."""

from dataclasses import dataclass

import numpy as np
from lancedb.index import Bitmap, BTree, HnswSq

from msclnet.errors import UserError
from msclnet.gallery.rebuilding import TOP, sampled
from msclnet.gallery.schema import MODALITIES, VECTOR
from msclnet.gallery.store import Gallery

FEWEST = 10_000  # images; below it the exact search is as fast
QUERIES = 200


@dataclass(frozen=True)
class IndexInfo:
    """A gallery's index.

    Attributes:
        kind: LanceDB's name.
        rows, rows_outside: Images in the index, and those added since, which every search compares.
        recall: Mean share of the exact search's first `top` that the index finds, over `queries` images of the gallery.
    """

    kind: str
    rows: int
    rows_outside: int
    top: int
    queries: int
    recall: float


def build_index(gallery: Gallery) -> None:
    """Build the index, or build it again.

    Raises:
        UserError: The gallery is too small for one.
    """
    if len(gallery) < FEWEST:
        raise UserError(
            f"{gallery.address}: {len(gallery)} images; below {FEWEST} the exact search is as fast as an index"
        )
    table = gallery.table
    table.create_index(VECTOR, config=HnswSq(distance_type="dot"), replace=True)
    for column, config in (
        ("id", BTree()),
        ("path", BTree()),
        ("time", BTree()),
        ("camera", Bitmap()),
        ("modality", Bitmap()),
    ):
        table.create_index(column, config=config, replace=True)


def index_info(gallery: Gallery) -> IndexInfo | None:
    """The index and its recall; None where there is none."""
    name = next((each.name for each in gallery.table.list_indices() if each.columns == [VECTOR]), None)
    if name is None:
        return None
    statistics = gallery.table.index_stats(name)
    assert statistics is not None  # it was listed
    recall, queries = measure_recall(gallery)
    return IndexInfo(
        kind=str(statistics.index_type),
        rows=statistics.num_indexed_rows,
        rows_outside=statistics.num_unindexed_rows,
        top=TOP,
        queries=queries,
        recall=recall,
    )


def measure_recall(
    gallery: Gallery, *, queries: int = QUERIES, where: str | None = None
) -> tuple[float, int]:
    """Mean share of the exact first `TOP` that a search with the index finds, 0 to 1, and over how many queries."""
    shares = []
    for id, modality in sampled(gallery, queries):
        vector, other = gallery.vector(id), MODALITIES[modality == MODALITIES[0]]
        exact, found = (
            {match.id for match in gallery.search(vector, top=TOP, modality=other, where=where, exact=each)}
            for each in (True, False)
        )
        if exact:
            shares.append(len(exact & found) / len(exact))
    return (float(np.mean(shares)) if shares else float("nan")), len(shares)
