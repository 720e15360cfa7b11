"""The index of a gallery: LanceDB's, built on request, kept up to date by additions, measured against the exact search.

Without an index every search reads all embeddings from the disk. A small gallery gets an index that keeps them in
memory and compares them all: its answers are exact. A large one gets an index with one byte a number, of which a search
looks at the nearest partitions; it compares the best candidates by their whole embeddings. docs/benchmarks.md
has figures.
"""

from dataclasses import dataclass

import numpy as np
from lancedb.index import Bitmap, BTree, IvfFlat, IvfSq

from msclnet.errors import UserError
from msclnet.gallery.schema import MODALITIES, VECTOR
from msclnet.gallery.store import Gallery

FEWEST = 5_000  # images; below it a search without an index takes a few milliseconds
LARGEST_EXACT = 256 * 2**20  # bytes of embeddings that an exact index may keep in memory
PARTITIONS_EXACT = 4
ROWS_A_PARTITION = 4096
PROBES, REFINED = 32, 5  # partitions that are searched; candidates per image to return
TOP, QUERIES = 10, 200  # of the measured recall


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


def build_index(gallery: Gallery, *, largest_exact: int = LARGEST_EXACT) -> None:
    """Build the index, or build it again.

    Args:
        gallery: Locked by the caller.
        largest_exact: Bytes of embeddings above which the index is not exact.

    Raises:
        UserError: The gallery is too small for one.
    """
    count, width = len(gallery), gallery.model.dimensions
    if count < FEWEST:
        raise UserError(f"{gallery.address}: {count} images; below {FEWEST} a search needs no index")
    for column in ("id", "path", "time"):
        gallery.table.create_index(column, config=BTree(), replace=True)
    for column in ("camera", "modality"):
        gallery.table.create_index(column, config=Bitmap(), replace=True)
    if 2 * count * width <= largest_exact:
        config = IvfFlat(distance_type="dot", num_partitions=PARTITIONS_EXACT)
        partitions = probes = PARTITIONS_EXACT
        refined = 1
    else:
        partitions = max(PARTITIONS_EXACT, count // ROWS_A_PARTITION)
        config = IvfSq(distance_type="dot", num_partitions=partitions)
        probes, refined = min(PROBES, partitions), REFINED
    gallery.table.create_index(VECTOR, config=config, replace=True)
    gallery.renew_description(index={"partitions": partitions, "probes": probes, "refined": refined})


def index_info(gallery: Gallery) -> IndexInfo | None:
    """The index and its recall; None where there is none."""
    name = next((each.name for each in gallery.table.list_indices() if each.columns == [VECTOR]), None)
    statistics = gallery.table.index_stats(name) if name else None
    if statistics is None:
        return None
    recall, queries = measure_recall(gallery)
    return IndexInfo(
        kind=str(statistics.index_type),
        rows=statistics.num_indexed_rows,
        rows_outside=statistics.num_unindexed_rows,
        top=TOP,
        queries=queries,
        recall=recall,
    )


def measure_recall(gallery: Gallery, *, queries: int = QUERIES) -> tuple[float, int]:
    """Mean share of the exact first `TOP` that a search with the index finds, 0 to 1, and over how many queries."""
    shares = []
    for id, modality in sampled(gallery, queries):
        vector, other = gallery.vector(id), MODALITIES[modality == MODALITIES[0]]
        exact, found = (
            {match.id for match in gallery.search(vector, top=TOP, modality=other, exact=each)}
            for each in (True, False)
        )
        if exact:
            shares.append(len(exact & found) / len(exact))
    return (float(np.mean(shares)) if shares else float("nan")), len(shares)


def sampled(gallery: Gallery, count: int) -> list[tuple[str, str]]:
    """Ids and modalities of some images: the lowest ids, which are digests and so a random choice that stays."""
    rows = [row for batch in gallery.batches(["id", "modality"]) for row in batch.to_pylist()]
    return sorted((row["id"], row["modality"]) for row in rows)[:count]
