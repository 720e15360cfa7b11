"""Writes a listing as one zip archive in SYSU-MM01's layout, over several processes."""

import multiprocessing
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from benchmarks.rehearsal.listing import SPLITS, Listing
from benchmarks.rehearsal.picture import draw
from msclnet.progress import progress_bar

ROOT = "SYSU-MM01"
DAY = (1980, 1, 1, 0, 0, 0)  # the first that an archive can name: its bytes do not depend on the clock
Cell = tuple[int, int, int]
"""identity, camera, number of images"""


def write_archive(target: Path, listing: Listing, *, workers: int) -> None:
    """Draw every image of a listing into an archive; the same bytes whatever the number of processes.

    Args:
        target: The zip archive; its folder must exist.
        listing: What to draw.
        workers: Processes.
    """
    cells = [(identity, camera, count) for (identity, camera), count in listing.cells.items()]
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive,
        progress_bar(total=listing.size, desc="draw", unit="image") as bar,
        _drawn(cells, workers=workers) as drawn,
    ):
        for name, identities in _lists(listing):
            archive.writestr(zipfile.ZipInfo(f"{ROOT}/exp/{name}_id.txt", DAY), identities)
        for (identity, camera, count), files in zip(cells, drawn, strict=True):
            for number, data in enumerate(files, start=1):
                name = f"{ROOT}/cam{camera}/{identity:04d}/{number:04d}.jpg"
                archive.writestr(zipfile.ZipInfo(name, DAY), data)
            bar.update(count)


def _lists(listing: Listing) -> Iterator[tuple[str, str]]:
    everybody: list[int] = []
    for split in SPLITS:
        everybody += listing.identities[split]
        yield split, ",".join(map(str, listing.identities[split]))
    yield "available", ",".join(map(str, sorted(everybody)))


@contextmanager
def _drawn(cells: list[Cell], *, workers: int) -> Iterator[Iterable[list[bytes]]]:
    if workers <= 1:
        yield map(draw_cell, cells)
        return
    # spawn: forked copies of a process with threads may hang.
    with multiprocessing.get_context("spawn").Pool(workers, initializer=_one_thread) as pool:
        yield pool.imap(draw_cell, cells, chunksize=4)


def draw_cell(cell: Cell) -> list[bytes]:
    """All images of one identity by one camera, as JPEG files."""
    identity, camera, count = cell
    return [draw(identity=identity, camera=camera, number=number) for number in range(1, count + 1)]


def _one_thread() -> None:
    cv2.setNumThreads(1)
