"""Writes one uint8 array for each split: every image decoded and resized once."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from msclnet.datasets.archive import Source, UnreadableFileError, open_source
from msclnet.datasets.records import Record
from msclnet.errors import UserError
from msclnet.files import replaced_file
from msclnet.images.decode import UnreadableImageError, decode, deep_range, resize
from msclnet.images.duplicates import measure
from msclnet.images.table import Entry, Measures
from msclnet.progress import progress_bar
from msclnet.worker_processes import in_processes

CHUNK = 32  # images a worker handles for one message


# Files with these endings have 8 bits; only others are opened to find the ranges. One that is named wrongly is scaled
# by its own range.
EIGHT_BITS = (".jpg", ".jpeg", ".bmp")


@dataclass(frozen=True)
class Range:
    """Values of one camera's images of more than 8 bits."""

    low: float  # of all of them; becomes 0
    high: float  # of all of them; becomes 255
    images: int
    levels: float  # gray levels that an image keeps, on average


def camera_ranges(records: Sequence[Record], *, source: Path, workers: int = 1) -> dict[int, Range]:
    """The range of each camera that has images of more than 8 bits.

    One range for all images of a camera keeps what is warm in one of them as bright as in the others, and does not
    spread a narrow range of values (a thermal camera's) over the 65,536 that the file could hold.
    """
    chosen = [record for record in records if not record.path.lower().endswith(EIGHT_BITS)]
    chunks = [chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK)]
    by_camera: dict[int, list[tuple[float, float]]] = {}
    with in_processes(
        partial(_ranges_of_chunk, source=source), chunks, workers=min(workers, len(chunks))
    ) as results:
        for camera, found in (pair for chunk in results for pair in chunk):
            by_camera.setdefault(camera, []).append(found)
    ranges = {}
    for camera, spans in sorted(by_camera.items()):
        low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        widths = [span[1] - span[0] for span in spans]
        whole = all(value.is_integer() for span in spans for value in span)
        scale = 255 / (high - low) if high > low else 0.0
        levels = [1 + (min(width, width * scale) if whole else width * scale) for width in widths]
        ranges[camera] = Range(low, high, len(spans), round(sum(levels) / len(levels), 1))
    return ranges


def _ranges_of_chunk(records: Sequence[Record], *, source: Path) -> list[tuple[int, tuple[float, float]]]:
    found = []
    for record in records:
        try:
            data = _source(source).read(record.path)
        except UnreadableFileError:  # reported by write_array
            continue
        if span := deep_range(data):
            found.append((record.camera, span))
    return found


@dataclass(frozen=True)
class Outcome:
    """The result for one image: its file's sha256, what was converted, whether it was readable, its measures."""

    sha256: str
    note: str
    readable: bool
    measures: Measures | None = None


def write_array(
    target: Path,
    records: Sequence[Record],
    *,
    source: Path,
    height: int,
    width: int,
    ranges: Mapping[int, Range] | None = None,
    workers: int = 1,
    progress: bool = True,
) -> tuple[list[Entry], list[tuple[Record, Outcome]]]:
    """Decode, resize (LANCZOS) and store images as a .npy array uint8 (N, height, width, 3).

    Unreadable images are left out. Pixels go straight to the file and never gather in memory. `ranges` are those of
    `camera_ranges`. Returns the entries of the array's rows, and the odd records with what was done to them.

    Raises:
        UserError: Not one image is readable, or a worker process died.
    """
    if not records:
        raise UserError(f"{source} holds no image for {target.name}; check the identity lists and folders")
    outcomes: list[Outcome] = []
    with replaced_file(target) as temporary:
        shape = (len(records), height, width, 3)
        np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        spans = {camera: (found.low, found.high) for camera, found in (ranges or {}).items()}
        job = partial(_write_chunk, array=temporary, source=source, height=height, width=width, spans=spans)
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
    entries = [Entry(records[i], outcomes[i].sha256, outcomes[i].measures) for i in readable]
    odd = [(r, o) for r, o in zip(records, outcomes, strict=True) if o.note or not o.readable]
    return entries, odd


def _keep_rows(path: Path, rows: list[int]) -> None:
    old = np.load(path, mmap_mode="r", allow_pickle=False)
    with replaced_file(path) as shorter:
        new = np.lib.format.open_memmap(shorter, mode="w+", dtype=np.uint8, shape=(len(rows), *old.shape[1:]))
        for to, row in enumerate(rows):
            new[to] = old[row]
        new.flush()


_SOURCES: dict[tuple[Path, int, int], Source] = {}  # one open archive for each worker process


def _source(path: Path) -> Source:
    status = path.stat()
    key = (path, status.st_ino, status.st_mtime_ns)
    if key not in _SOURCES:
        _SOURCES.clear()
        _SOURCES[key] = open_source(path)
    return _SOURCES[key]


def _write_chunk(
    chunk: tuple[int, Sequence[Record]],
    *,
    array: Path,
    source: Path,
    height: int,
    width: int,
    spans: Mapping[int, tuple[float, float]],
) -> list[Outcome]:
    start, records = chunk
    opened = _source(source)
    outcomes = []
    pixels_of_file = np.load(array, mmap_mode="r", allow_pickle=False)
    offset, size = int(pixels_of_file.offset), height * width * 3  # pyright: ignore[reportAttributeAccessIssue]
    with array.open("r+b", buffering=0) as file:
        for row, record in enumerate(records, start):
            try:
                data = opened.read(record.path)
            except UnreadableFileError as error:
                outcomes.append(Outcome("", str(error), readable=False))
                continue
            sha256 = hashlib.sha256(data).hexdigest()
            try:
                decoded = decode(data, span=spans.get(record.camera))
            except UnreadableImageError as error:
                outcomes.append(Outcome(sha256, str(error), readable=False))
                continue
            pixels = resize(decoded.pixels, height=height, width=width)
            os.pwrite(file.fileno(), pixels.tobytes(), offset + row * size)
            high, wide = decoded.pixels.shape[:2]
            measures = measure(pixels, height=high, width=wide)
            outcomes.append(Outcome(sha256, decoded.note, readable=True, measures=measures))
    return outcomes
