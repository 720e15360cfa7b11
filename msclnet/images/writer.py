"""Writes one uint8 array for each split: every image decoded and resized once."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from msclnet.datasets.archive import Source, UnreadableFileError, open_source
from msclnet.datasets.records import Record
from msclnet.errors import UserError
from msclnet.images.decode import UnreadableImageError, decode, resize
from msclnet.images.table import Entry
from msclnet.progress import progress_bar
from msclnet.worker_processes import in_processes

CHUNK = 32  # images a worker handles for one message


@dataclass(frozen=True)
class Outcome:
    """What became of one image: its checksum, and a note if it was odd, or unreadable."""

    sha256: str
    note: str
    readable: bool


def write_array(
    target: Path,
    records: Sequence[Record],
    *,
    source: Path,
    height: int,
    width: int,
    workers: int = 1,
    progress: bool = True,
) -> tuple[list[Entry], list[tuple[Record, Outcome]]]:
    """Decode, resize (LANCZOS) and store images as a .npy array uint8 (N, height, width, 3).

    Unreadable images are left out of the array. Pixels go straight to the file and never gather in memory.

    Args:
        target: The .npy file.
        records: In the order of the rows.
        source: Folder or archive that holds the records' paths.
        height: Pixels.
        width: Pixels.
        workers: Processes.
        progress: Whether to draw a progress bar.

    Returns:
        The entries of the array's rows, and the odd records with what was done to them.

    Raises:
        UserError: Not one image is readable, or a worker process died.
    """
    if not records:
        raise UserError(f"{source} holds no image for {target.name}; check the identity lists and folders")
    outcomes: list[Outcome] = []
    temporary = target.with_suffix(".partial")
    _create(temporary, count=len(records), height=height, width=width)
    job = partial(_write_chunk, array=temporary, source=source, height=height, width=width)
    # Only its own records go with each message: all of them would take longer than the images.
    chunks = [(start, records[start : start + CHUNK]) for start in range(0, len(records), CHUNK)]
    with (
        progress_bar(total=len(records), desc=target.stem, unit="image", disable=not progress) as bar,
        in_processes(job, chunks, workers=workers) as results,
    ):
        for chunk in results:
            outcomes += chunk
            bar.update(len(chunk))
    readable = [i for i, outcome in enumerate(outcomes) if outcome.readable]
    if not readable:
        raise UserError(f"{source}: not one of the {len(records)} images for {target.name} is readable")
    if len(readable) < len(records):
        _keep_rows(temporary, readable)
    os.replace(temporary, target)
    entries = [Entry(records[i], outcomes[i].sha256) for i in readable]
    odd = [(r, o) for r, o in zip(records, outcomes, strict=True) if o.note or not o.readable]
    return entries, odd


def _create(path: Path, *, count: int, height: int, width: int) -> None:
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, height, width, 3))


def _data_offset(path: Path) -> int:
    return int(np.load(path, mmap_mode="r", allow_pickle=False).offset)  # pyright: ignore[reportAttributeAccessIssue]


def _keep_rows(path: Path, rows: list[int]) -> None:
    old = np.load(path, mmap_mode="r", allow_pickle=False)
    shorter = path.with_suffix(".shorter")
    new = np.lib.format.open_memmap(shorter, mode="w+", dtype=np.uint8, shape=(len(rows), *old.shape[1:]))
    for to, row in enumerate(rows):
        new[to] = old[row]
    new.flush()
    os.replace(shorter, path)


_SOURCES: dict[tuple[Path, int, int], Source] = {}  # one open archive for each worker process


def _write_chunk(
    chunk: tuple[int, Sequence[Record]], *, array: Path, source: Path, height: int, width: int
) -> list[Outcome]:
    start, records = chunk
    status = source.stat()
    key = (source, status.st_ino, status.st_mtime_ns)
    if key not in _SOURCES:
        _SOURCES.clear()
        _SOURCES[key] = open_source(source)
    opened = _SOURCES[key]
    outcomes = []
    offset, size = _data_offset(array), height * width * 3
    with array.open("r+b", buffering=0) as file:
        for row, record in enumerate(records, start):
            try:
                data = opened.read(record.path)
            except UnreadableFileError as error:
                outcomes.append(Outcome("", str(error), readable=False))
                continue
            sha256 = hashlib.sha256(data).hexdigest()
            try:
                decoded = decode(data)
            except UnreadableImageError as error:
                outcomes.append(Outcome(sha256, str(error), readable=False))
                continue
            pixels = resize(decoded.pixels, height=height, width=width)
            os.pwrite(file.fileno(), pixels.tobytes(), offset + row * size)
            outcomes.append(Outcome(sha256, decoded.note, readable=True))
    return outcomes
