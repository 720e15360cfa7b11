"""Images into a gallery: what is new is embedded, what is known is skipped, what cannot be read is listed.

Rows are written as the embedding goes on, and a row takes the place of a former one of the same path. So an addition
that was stopped anywhere is completed by the same call.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from msclnet.datasets.archive import UnreadableFileError, read_plain_file
from msclnet.errors import UserError
from msclnet.gallery.sources import KNOWN, Source, Sources
from msclnet.gallery.store import Gallery
from msclnet.images.user_files import Unreadable
from msclnet.progress import progress_bar

_FULL = (
    "No space left",
    "File too large",
    "uota exceeded",
)  # what systems report, within LanceDB's own words
WRITTEN_EVERY = 20.0  # seconds of embedding that an interruption can cost


@dataclass
class Comparison:
    """Sources against the gallery.

    Attributes:
        pending: New or changed: to be read and embedded.
        described: Rows with what is known now of images that need no embedding.
        unchanged: Number of images that the gallery has as they are.
        refused: Files that are not there or cannot be opened.
    """

    pending: list[Source] = field(default_factory=list)
    described: list[dict[str, Any]] = field(default_factory=list)
    unchanged: int = 0
    refused: list[Unreadable] = field(default_factory=list)


@dataclass
class Added:
    """What an addition did, in numbers of images, and the files that were refused."""

    added: int = 0
    described: int = 0
    unchanged: int = 0
    refused: list[Unreadable] = field(default_factory=list)


Embedder = Callable[[Iterable[Source]], Iterator[tuple[pa.Table, list[Unreadable]]]]
"""Reads and embeds sources: rows of the gallery and the files that were refused, some at a time, in any order."""


def compare(gallery: Gallery | None, sources: Sources) -> Comparison:
    """Find out what of the sources is new. A file whose size and time are the gallery's is not read."""
    found = Comparison(refused=list(sources.refused))
    waiting = {source.path: source for source in sources.images}
    for row in _stored_rows(gallery, sources) if gallery else ():
        _compare_known(waiting.pop(row["path"]), row, found)
    for source in waiting.values():
        if os.path.exists(source.path):
            found.pending.append(source)
        else:
            found.refused.append(Unreadable(Path(source.path), "no such file"))
    return found


def add_sources(gallery: Gallery, sources: Sources, found: Comparison, embed: Embedder | None) -> Added:
    """Bring the sources into the gallery.

    Args:
        gallery: Locked by the caller.
        sources: Whose own columns the gallery gets.
        found: What `compare` said of them.
        embed: What reads and embeds; None where nothing is pending.

    Raises:
        UserError: A column has another type in the gallery, or the disk is full.
    """
    done = Added(unchanged=found.unchanged, refused=list(found.refused))
    with full_disk_explained(gallery.address):
        gallery.add_columns(sources.others)
        if found.described:
            gallery.describe(found.described)
            done.described = len(found.described)
        if found.pending and embed is not None:
            write_embedded(gallery, embed(found.pending), done, total=len(found.pending))
            gallery.optimize()
        gallery.refuse(_refused_rows(sources, done.refused))
    return done


def _refused_rows(sources: Sources, refused: Iterable[Unreadable]) -> list[dict[str, Any]]:
    """What `msclnet gallery watch` counts, by camera and time."""
    given = {source.path: source.given for source in sources.images}
    now = datetime.now(UTC).replace(tzinfo=None)
    rows = {}
    for each in refused:
        known = given.get(str(each.path), {})
        path = os.fsencode(each.path).decode("utf-8", "backslashreplace")  # of any bytes
        rows[path] = {
            "path": path,
            "camera": known.get("camera"),
            "time": known.get("time") or now,
            "reason": each.reason,
        }
    return list(rows.values())


def write_embedded(
    gallery: Gallery, parts: Iterable[tuple[pa.Table, list[Unreadable]]], done: Added, *, total: int
) -> None:
    """Write rows to a gallery as they come, some seconds' worth at a time; what was made is written at any end."""
    waiting: list[pa.Table] = []
    written = time.monotonic()
    with progress_bar(total=total, desc=gallery.address, unit="image") as bar:
        try:
            for rows, refused in parts:
                waiting.append(rows)
                done.refused += refused
                bar.update(len(rows) + len(refused))
                if time.monotonic() - written > WRITTEN_EVERY:
                    _write(gallery, waiting, done)
                    written = time.monotonic()
        finally:
            _write(gallery, waiting, done)


@contextmanager
def full_disk_explained(address: str) -> Iterator[None]:
    """Turn what LanceDB raises on a full disk into a UserError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not any(words in str(error) for words in _FULL):
            raise
        raise UserError(
            f"{address}: the disk is full, or a file there may not grow; make room and give the same command again: "
            "what was written before stays"
        ) from error


def _write(gallery: Gallery, waiting: list[pa.Table], done: Added) -> None:
    rows = [table for table in waiting if len(table)]
    waiting.clear()
    if rows:
        gallery.add(pa.concat_tables(rows))
        done.added += sum(map(len, rows))


def _stored_rows(gallery: Gallery, sources: Sources) -> Iterator[dict[str, Any]]:
    """What the gallery knows of those sources that it has."""
    wanted = pa.array([source.path for source in sources.images], pa.string())
    of_sources = pc.field("path").isin(wanted)
    for batch in gallery.batches(["path", "size", "modified", "sha256", *KNOWN, *gallery.others]):
        yield from batch.filter(of_sources).to_pylist()


def _compare_known(source: Source, row: dict[str, Any], found: Comparison) -> None:
    kept = row.keys() - {"path", "size", "modified", "sha256", "modality"}  # also of a file that has changed
    try:
        status = os.stat(source.path)
        touched = (status.st_size, status.st_mtime_ns) != (row["size"], row["modified"])
        changed = touched and hashlib.sha256(read_plain_file(Path(source.path))).hexdigest() != row["sha256"]
    except (OSError, UnreadableFileError) as error:
        found.refused.append(Unreadable(Path(source.path), getattr(error, "strerror", None) or str(error)))
        return
    if changed or source.given.get("modality", row["modality"]) != row["modality"]:
        known = {name: value for name, value in row.items() if name in kept and value is not None}
        found.pending.append(Source(source.path, {**known, **source.given}))
    elif touched or any(row.get(name) != value for name, value in source.given.items()):
        times = {"size": status.st_size, "modified": status.st_mtime_ns}
        found.described.append({"path": source.path, **times, **source.given})
    else:
        found.unchanged += 1
