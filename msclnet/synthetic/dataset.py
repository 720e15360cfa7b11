"""Writes the rendered data set in SYSU-MM01's layout into one archive, over several processes."""

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2

from msclnet.datasets.records import SPLITS, Split
from msclnet.progress import progress_bar
from msclnet.synthetic.layout import Appearance, ImageCounts, plan
from msclnet.synthetic.render import render_person
from msclnet.worker_processes import in_processes

JPEG_QUALITY = 90
ARCHIVE_TIME = (
    1980,
    1,
    1,
    0,
    0,
    0,
)  # the earliest time that an archive can hold: the bytes do not depend on the day
File = tuple[str, bytes]


def _one_thread() -> None:
    """Keeps OpenCV to the process's own core."""
    cv2.setNumThreads(1)


def _render_identity(appearance: Appearance, *, seed: int) -> list[File]:
    """Renders all pictures of one identity: member names and JPEG files."""
    files = []
    for camera, count in sorted(appearance.counts.items()):
        for image in range(count):
            picture = render_person(seed=seed, identity=appearance.identity, camera=camera, image=image)
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            encoded, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)
            if not encoded:
                raise RuntimeError(f"OpenCV could not encode image {image} of identity {appearance.identity}")
            name = f"cam{camera}/{appearance.identity:04d}/{image + 1:04d}.jpg"
            files.append((name, data.tobytes()))
    return files


@contextmanager
def _rendered(planned: list[Appearance], *, seed: int, workers: int) -> Iterator[Iterator[list[File]]]:
    """The identities' files in the order of the plan, whoever renders them."""
    render = partial(_render_identity, seed=seed)
    if workers <= 1:
        threads = cv2.getNumThreads()
        _one_thread()
        try:
            yield map(render, planned)
        finally:
            cv2.setNumThreads(threads)
        return
    with in_processes(render, planned, workers=workers, initializer=_one_thread) as results:
        yield results


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Adds a member whose header says nothing of the day or the machine."""
    member = zipfile.ZipInfo(name, date_time=ARCHIVE_TIME)
    member.create_system = 3
    member.external_attr = 0o644 << 16
    archive.writestr(member, data, compress_type=zipfile.ZIP_STORED)


def write_dataset(
    target: Path,
    *,
    seed: int,
    identities: Mapping[Split, int],
    images: ImageCounts,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Renders the data set into one archive.

    Members: `cam1/0001/0001.jpg` and so on, cameras 1, 2, 4, 5 visible, 3 and 6 infrared, and
    `exp/{train,val,test,available}_id.txt`, each one comma-separated line. Nothing is compressed, so a reader can
    map it. The archive appears under its name only when it is whole.

    Args:
        target: The archive to write; its folder is made where it is missing.
        seed: Same seed and counts, same bytes, whatever the number of workers.
        identities: How many identities each split has.
        images: How many pictures each of them has.
        workers: Processes that render; all of the machine's cores where None.
        progress: Whether to show a progress bar.
    """
    planned = plan(seed=seed, identities=identities, images=images)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    total = sum(sum(appearance.counts.values()) for appearance in planned)
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with (
            zipfile.ZipFile(unfinished, "w") as archive,
            progress_bar(total=total, desc="render", unit="image", disable=not progress) as bar,
            _rendered(planned, seed=seed, workers=workers) as rendered,
        ):
            for split in SPLITS:
                members = [str(one.identity) for one in planned if one.split == split]
                _add(archive, f"exp/{split}_id.txt", (",".join(members) + "\n").encode())
            everyone = ",".join(str(one.identity) for one in planned) + "\n"
            _add(archive, "exp/available_id.txt", everyone.encode())
            for files in rendered:
                for name, data in files:
                    _add(archive, name, data)
                bar.update(len(files))
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
