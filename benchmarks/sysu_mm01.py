"""SYSU-MM01 at its published counts: a drawn archive in its layout, and what its evaluation must produce."""

import csv
import json
import multiprocessing
import random
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from msclnet.errors import UserError
from msclnet.images.table import END
from msclnet.progress import progress_bar
from msclnet.retrieval.sampling import read_mat, read_permutations
from pipelines.stages import paths

Cells = Mapping[tuple[int, int], int]
"""(identity, camera) -> number of images"""

SPLITS = ("train", "val", "test")


class Group(NamedTuple):
    """People seen by the same cameras, and how many images of all of them each camera has."""

    identities: int
    images: Mapping[int, int]


# Totals by split and modality are the published ones. How they are shared out is made up, except that the test part
# keeps the published totals of each camera. In indoor search 54 people of camera 3 and 56 of camera 6 have matches:
# 1,088 and 1,120 infrared images, the 2,208 valid queries.
GROUPS: Mapping[str, Sequence[Group]] = {
    "train": (
        Group(200, {1: 4850, 2: 5800, 3: 4009, 4: 3850, 5: 3864, 6: 4000}),
        Group(96, {3: 1920, 4: 960, 5: 960}),
    ),
    "val": (Group(99, {3: 1980, 4: 987, 5: 987}),),
    "test": (
        Group(54, {1: 1325, 2: 1509, 3: 1088, 4: 1102, 5: 1091, 6: 1080}),
        Group(2, {1: 49, 2: 56, 4: 41, 5: 41, 6: 40}),
        Group(36, {3: 735, 4: 735, 5: 726, 6: 720}),
        Group(2, {3: 40, 5: 40, 6: 40}),
        Group(1, {3: 20, 4: 20, 6: 20}),
        Group(1, {4: 20, 5: 20, 6: 20}),
    ),
    # On disk and in no list.
    "unlisted": (Group(4, {3: 80, 4: 89, 5: 89}), Group(18, {4: 430, 5: 430})),
}


@dataclass(frozen=True)
class Listing:
    """A data set of SYSU-MM01's kind: the identities of the lists train, val and test, and all images on disk."""

    identities: Mapping[str, Sequence[int]]
    cells: Cells

    def lists(self) -> dict[str, str]:
        """Text of each identity list, by its path below the data set's folder."""
        available = sorted(identity for members in self.identities.values() for identity in members)
        members = {**self.identities, "available": available}
        return {f"exp/{name}_id.txt": ",".join(map(str, members[name])) for name in members}


def image_path(identity: int, camera: int, number: int) -> str:
    """Below the data set's folder; numbers start at 1."""
    return f"cam{camera}/{identity:04d}/{number:04d}.jpg"


def full_listing(groups: Mapping[str, Sequence[Group]] = GROUPS, *, test: Cells | None = None) -> Listing:
    """Number the people of the groups, reproducibly; SYSU-MM01: 513 people, 491 of them listed, 45,863 images.

    `test` is the test part image by image, where it is known; it takes the place of the test groups.
    """
    taken = {identity for identity, _ in test or {}}
    free = [number for number in range(1, 534) if number not in taken]  # folder names; twenty are not used
    numbers = iter(random.Random(0).sample(free, len(free)))
    identities: dict[str, list[int]] = {}
    cells: dict[tuple[int, int], int] = {}
    for split, members in groups.items():
        identities[split] = []
        if split == "test" and test is not None:
            identities[split], cells, members = sorted(taken), cells | dict(test), ()
        for group in members:
            people = [next(numbers) for _ in range(group.identities)]
            identities[split] += people
            for camera, total in group.images.items():
                each, more = divmod(total, len(people))
                cells |= {(identity, camera): each + (i < more) for i, identity in enumerate(people)}
    return Listing({split: sorted(identities[split]) for split in SPLITS}, dict(sorted(cells.items())))


@dataclass(frozen=True)
class Expected:
    """Numbers that an evaluation must produce."""

    published: bool  # whether download must find no difference from the published numbers
    images: Mapping[tuple[str, str], int]  # by split and modality
    test_cameras: Mapping[int, tuple[int, int]]  # identities and images
    queries: int
    valid_queries: Mapping[str, int]  # by mode: those with a match in the gallery
    gallery: Mapping[tuple[str, int], int]  # images of a trial, by mode and shots
    trials: int


SYSU_MM01 = Expected(
    published=True,
    images={
        ("train", "visible"): 22_258,
        ("train", "infrared"): 11_909,
        ("test", "visible"): 6_775,
        ("test", "infrared"): 3_803,
    },
    test_cameras={1: (56, 1374), 2: (56, 1565), 3: (93, 1883), 4: (94, 1918), 5: (95, 1918), 6: (96, 1920)},
    queries=3_803,
    valid_queries={"all": 3_803, "indoor": 2_208},
    gallery={("all", 1): 301, ("all", 10): 3_010, ("indoor", 1): 112, ("indoor", 10): 1_120},
    trials=10,
)


DAY = (1980, 1, 1, 0, 0, 0)  # the bytes of the archive do not depend on the clock
QUALITY = 95
# At this quality a pixel with noise of standard deviation s takes about OFFSET + SLOPE * ln(s) bits. Measured.
OFFSET, SLOPE = {False: -0.63, True: 0.53}, {False: 2.25, True: 1.67}


def draw(identity: int, camera: int, number: int) -> bytes:
    """A JPEG file of noise on a colour, reproducible and different from all others.

    100 to 200 x 250 to 500 pixels and 20 to 30 KiB, as in SYSU-MM01. Infrared images have three equal channels.
    """
    infrared = camera in (3, 6)
    rng = np.random.default_rng((1, identity, camera, number))
    height = int(rng.integers(250, 501))
    width = int(np.clip(round(height * rng.uniform(0.36, 0.44)), 100, 200))
    bits = 8 * rng.uniform(23_500, 27_500) / (height * width)
    spread = float(np.exp((bits - OFFSET[infrared]) / SLOPE[infrared]))
    channels = 1 if infrared else 3
    noise = rng.standard_normal((height, width, channels), dtype=np.float32)
    pixels = np.clip(rng.uniform(70, 170, channels) + spread * noise, 0, 255).astype(np.uint8)
    if infrared:
        pixels = np.repeat(pixels, 3, axis=2)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def draw_cell(cell: tuple[int, int, int]) -> dict[str, bytes]:
    """All images of one identity by one camera, by their path below the data set's folder."""
    identity, camera, count = cell
    return {image_path(identity, camera, n): draw(identity, camera, n) for n in range(1, count + 1)}


def write_archive(target: Path, listing: Listing, *, workers: int) -> None:
    """Draw every image of a listing into a zip archive; the bytes do not depend on the number of processes."""
    cells = [(*cell, count) for cell, count in listing.cells.items()]
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive,
        progress_bar(total=sum(listing.cells.values()), desc="draw", unit="image") as bar,
        # spawn: forked copies of a process with threads may hang.
        multiprocessing.get_context("spawn").Pool(workers, cv2.setNumThreads, (1,)) as pool,
    ):
        for path, text in listing.lists().items():
            archive.writestr(zipfile.ZipInfo(f"SYSU-MM01/{path}", DAY), text)
        for files in pool.imap(draw_cell, cells, chunksize=4):
            for path, data in files.items():
                archive.writestr(zipfile.ZipInfo(f"SYSU-MM01/{path}", DAY), data)
            bar.update(len(files))


def read_test_cells(permutations: Path) -> Cells:
    """Images of each test identity and camera, from rand_perm_cam.mat and the test list next to it.

    The permutations contain people of all lists. The test list is test_id.mat, as in the published evaluation code, or
    test_id.txt, as in the data set.
    """
    tables = read_permutations(permutations)
    matrix, text = permutations.with_name("test_id.mat"), permutations.with_name("test_id.txt")
    try:
        numbers = read_mat(matrix)["id"].ravel() if matrix.is_file() else re.findall(r"\d+", text.read_text())
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{text.parent} holds no readable test_id.mat or test_id.txt ({error}): put the test list of SYSU-MM01's "
            f"evaluation code next to {permutations.name}, which contains the people of all lists"
        ) from error
    identities = set(map(int, numbers))
    cells = {cell: table.shape[1] for cell, table in tables.items() if cell[0] in identities}
    found = len({identity for identity, _ in cells}), sum(cells.values())
    if found != (96, 10_578):
        raise UserError(
            f"{permutations} and the test list next to it give {found[0]} people and {found[1]:,} images, not 96 and "
            "10,578; take both files from SYSU-MM01's evaluation code"
        )
    return cells


FEATURES = ("bnneck", "pooled", "random", "colour histogram")


FIGURES = ("cmc", "distances", "heatmaps", "reliability", "top10", "training", "tsne")


class Check(NamedTuple):
    """One number, or one list of them."""

    what: str
    found: Any
    expected: Any

    @property
    def holds(self) -> bool:
        """Whether both are the same."""
        return self.found == self.expected


def checks(project: Path, expected: Expected, *, sampler: str) -> Iterator[Check]:
    """Compare the outputs of every stage, in their order; `sampler` is that of the galleries."""
    report = _json(project / paths.DOWNLOAD_REPORT)
    if expected.published:
        found = report["compared"], report["differences"]
        yield Check("download: compared with the published numbers, differences", found, (True, []))
    test = [count for count in report["counts"] if count["part"] == "test"]
    seen = {count["camera"]: (count["identities"], count["images"]) for count in test}
    yield Check("download: test identities and images by camera", seen, dict(expected.test_cameras))

    with (project / paths.MANIFEST).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] != END]
    images = Counter((row["split"], row["modality"]) for row in rows)
    yield Check("preprocess: images by split and modality", dict(images), dict(expected.images))
    # Every image differs: this finds a file that was read twice or under another name.
    yield Check("preprocess: different files", len({row["sha256"] for row in rows}), len(rows))
    report = _json(project / paths.PREPROCESS_REPORT)
    yield Check("preprocess: unreadable or converted", report["unreadable"] + report["converted"], [])
    counts = {
        split: sum(count for (of, _), count in expected.images.items() if of == split)
        for split in ("train", "test")
    }
    for split, count in counts.items():
        array = np.load(project / paths.images_of(split), mmap_mode="r", allow_pickle=False)
        shape = (count, report["height"], report["width"], 3)
        yield Check(f"preprocess: array of {split}", (array.shape, str(array.dtype)), (shape, "uint8"))

    with np.load(project / paths.embeddings_of("test"), allow_pickle=False) as arrays:
        for name in ("pooled", "bnneck"):
            found = len(arrays[name]), bool(np.isfinite(arrays[name]).all())
            yield Check(f"embed: finite features, {name}", found, (counts["test"], True))

    columns = ("mode", "shots", "sampler", "feature", "queries", "valid_queries", "gallery", "trials")
    results = [tuple(each[name] for name in columns) for each in _json(project / paths.METRICS_REPORT)]
    queries, valid, trials = expected.queries, expected.valid_queries, expected.trials
    wanted = [
        (mode, shots, sampler, feature, queries, valid[mode], gallery, trials)
        for (mode, shots), gallery in expected.gallery.items()
        for feature in FEATURES
    ]
    yield Check(f"evaluate: {', '.join(columns)}", sorted(results), sorted(wanted))
    found = sorted(path.stem for path in (project / paths.FIGURES).glob("*.png") if path.stat().st_size)
    yield Check("visualize: figures", found, list(FIGURES))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
