"""A gallery with the embeddings of another model: a second table next to the first, which it replaces at the end."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msclnet.datasets.archive import UnreadableFileError, read_plain_file
from msclnet.gallery.adding import Added, full_disk_explained, write_embedded
from msclnet.gallery.embedding import BATCH, Prepared, as_jpeg, embed_in_threads
from msclnet.gallery.index import QUERIES, TOP, build_index, sampled
from msclnet.gallery.schema import MODALITIES, VECTOR, GalleryModel
from msclnet.gallery.store import Gallery
from msclnet.images.decode import UnreadableImageError, decode, resize
from msclnet.images.user_files import SearchModel


@dataclass(frozen=True)
class Change:
    """How the answers of a gallery changed.

    Attributes:
        queries: Images of the gallery that were asked, each for images of the other modality.
        new_in_top: Mean share of the first `TOP` that were not among them before, 0 to 1; NaN without queries.
        other_first: Share of the queries whose first image is another one; NaN without queries.
    """

    queries: int
    new_in_top: float
    other_first: float


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild did: images embedded now, those of them from the stored crop, and how the answers changed."""

    images: int
    from_crops: int
    change: Change


def rebuild(
    gallery: Gallery, model: SearchModel, description: GalleryModel, *, threads: int, batch: int = BATCH
) -> Rebuilt:
    """Embed all images again and put the new table in the place of the old one.

    A file that is gone or has changed is embedded from the crop in the table. Searches see the old table until the new
    one is whole. After an interruption the same call goes on.

    Args:
        gallery: Locked by the caller.
        model: The new one.
        description: The same as the table keeps it.
        threads: That read files.
        batch: Images at a time through the network.

    Raises:
        UserError: The disk is full.
    """
    from_crops = 0

    def prepare(row: dict[str, Any]) -> Prepared:
        nonlocal from_crops
        pixels = _pixels_of_file(Path(row["path"]), row["sha256"], model)
        if pixels is None:
            from_crops += 1
            return Prepared(resize(decode(row["crop"]).pixels, height=model.height, width=model.width), row)
        return Prepared(pixels, {**row, "crop": as_jpeg(pixels)})

    with full_disk_explained(gallery.address):
        new = gallery.beside(description)
        finished = {row["id"] for batch in new.batches(["id"]) for row in batch.to_pylist()}
        done = Added()
        parts = embed_in_threads(
            _rows(gallery, finished), prepare, model, new.schema, threads=threads, batch=batch
        )
        write_embedded(new, parts, done, total=len(gallery) - len(finished))
        change = compare_answers(gallery, new)
        indexed = gallery.metadata["index"] is not None
        gallery.replace_with(new)
        if indexed:
            build_index(gallery)
    return Rebuilt(done.added, from_crops, change)


def compare_answers(before: Gallery, after: Gallery, *, queries: int = QUERIES) -> Change:
    """How the first images of sampled queries differ between two tables of the same images."""
    new_in_top, other_first = [], []
    for id, modality in sampled(before, queries):
        other = MODALITIES[modality == MODALITIES[0]]
        former, present = (
            [match.id for match in each.search(each.vector(id), top=TOP, modality=other)]
            for each in (before, after)
        )
        if former:
            new_in_top.append(len(set(present) - set(former)) / len(former))
            other_first.append(present[0] != former[0])
    if not new_in_top:
        return Change(0, float("nan"), float("nan"))
    return Change(len(new_in_top), float(np.mean(new_in_top)), float(np.mean(other_first)))


def _rows(gallery: Gallery, finished: set[str]) -> Iterator[dict[str, Any]]:
    columns = [name for name in gallery.schema.names if name != VECTOR]
    for batch in gallery.batches(columns):
        yield from (row for row in batch.to_pylist() if row["id"] not in finished)


def _pixels_of_file(path: Path, sha256: str, model: SearchModel) -> np.ndarray | None:
    try:
        data = read_plain_file(path)
        if hashlib.sha256(data).hexdigest() == sha256:
            return resize(decode(data).pixels, height=model.height, width=model.width)
    except (UnreadableFileError, UnreadableImageError):
        pass
    return None
