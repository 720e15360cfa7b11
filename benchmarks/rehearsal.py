"""Rehearses the evaluation of SYSU-MM01 at its real size, without the data set: `make rehearse-sysu`.

Draws 45,863 images in SYSU-MM01's layout and runs the project's stages on them; the training takes a single step. Every
number that the data set and its protocol fix is compared, and the cost of each stage is printed. Needs 9 GiB of disk
while it runs.
"""

import argparse
import csv
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import psutil

from benchmarks.tables import GIB, Target
from msclnet.errors import UserError
from msclnet.images.table import END
from msclnet.progress import progress_bar
from msclnet.retrieval.protocols import load_mat, read_permutations
from pipelines import settings
from pipelines.orchestration.overrides import apply_overrides
from pipelines.stages import paths
from pipelines.stages.config import load_params
from pipelines.stages.paths import PARAMS, write_json
from pipelines.stages.presets import apply_preset
from pipelines.stages.stage import report_user_errors

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "results" / "rehearsal" / "sysu-mm01.json"
PRESET = "sysu-mm01"
STAGES = ("download", "preprocess", "train", "embed", "evaluate", "visualize")
FILE_BYTES = 27 * 2**10  # of an image, on average, rounded up
OTHER_BYTES = 2**30  # weights, features, the model in MLflow
FAILED = 1
# Variables that could lead the stages to other files or servers; two of the project's own stay.
SURROUNDINGS = ("DVC_", "GIT_", "MLFLOW_", "MSCLNET_", "PREFECT_")
MACHINE = ("MSCLNET_DEVICE", "MSCLNET_THREADS")

Cells = Mapping[tuple[int, int], int]
"""(identity, camera) -> number of images"""

NUMBERS = range(1, 534)  # the folders' names; twenty of them are not used
SPLITS = ("train", "val", "test")


class Group(NamedTuple):
    """People seen by the same cameras, and how many images of all of them each camera has."""

    identities: int
    images: Mapping[int, int]


# Totals by split and modality are the published ones. How they are shared out is made up, except that the test part
# keeps the published totals of each camera, and 54 and 56 people whom cameras 3 and 6 can find indoors: these have
# 1,088 and 1,120 infrared images, the 2,208 valid queries of indoor search.
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
    """A data set of SYSU-MM01's kind.

    Attributes:
        identities: Numbers of the people in each list of `exp`: train, val, test.
        cells: Images on disk, those of people in no list included.
    """

    identities: Mapping[str, Sequence[int]]
    cells: Cells

    @property
    def size(self) -> int:
        """Number of images."""
        return sum(self.cells.values())


def full_listing(test: Cells | None = None) -> Listing:
    """SYSU-MM01 at its real counts: 513 people, 491 of them in the lists, 45,863 images.

    Args:
        test: The test part image by image, where it is known; None: one with the same totals.
    """
    return build_listing(GROUPS, test=test)


def build_listing(groups: Mapping[str, Sequence[Group]], *, test: Cells | None = None) -> Listing:
    """Give everybody in the groups a number; the same groups give the same numbers.

    Args:
        groups: Of the train, val and test lists and of `unlisted`.
        test: Takes the place of the test groups.
    """
    taken = {identity for identity, _ in test or {}}
    free = [number for number in NUMBERS if number not in taken]
    numbers = iter(random.Random(0).sample(free, len(free)))
    identities: dict[str, list[int]] = {}
    cells: dict[tuple[int, int], int] = {}
    for split, members in groups.items():
        if split == "test" and test is not None:
            identities[split] = sorted(taken)
            cells |= test
            continue
        identities[split] = []
        for group in members:
            people = [next(numbers) for _ in range(group.identities)]
            identities[split] += people
            cells |= _shared_out(group, people)
    return Listing(
        {split: sorted(identities[split]) for split in SPLITS}, {cell: cells[cell] for cell in sorted(cells)}
    )


def _shared_out(group: Group, people: Sequence[int]) -> Iterable[tuple[tuple[int, int], int]]:
    """As evenly as whole images allow."""
    for camera, total in group.images.items():
        each, more = divmod(total, len(people))
        for place, identity in enumerate(people):
            yield (identity, camera), each + (place < more)


@dataclass(frozen=True)
class Expected:
    """Numbers of a whole evaluation.

    Attributes:
        published: Whether download must find no difference from the published numbers.
        images: By split and modality, as in the manifest.
        test_cameras: Test identities and test images of each camera.
        queries: Test images that ask, in every mode.
        valid_queries: By mode, those with a match in the gallery.
        gallery: By mode and shots, the images of each trial's gallery.
        trials: Galleries drawn.
    """

    published: bool
    images: Mapping[tuple[str, str], int]
    test_cameras: Mapping[int, tuple[int, int]]
    queries: int
    valid_queries: Mapping[str, int]
    gallery: Mapping[tuple[str, int], int]
    trials: int


SYSU_MM01 = Expected(
    published=True,
    images={
        ("train", "visible"): 22_258,
        ("train", "infrared"): 11_909,
        ("test", "visible"): 6_775,
        ("test", "infrared"): 3_803,
    },
    test_cameras={
        1: (56, 1374),
        2: (56, 1565),
        3: (93, 1883),
        4: (94, 1918),
        5: (95, 1918),
        6: (96, 1920),
    },
    queries=3_803,
    valid_queries={"all": 3_803, "indoor": 2_208},
    gallery={("all", 1): 301, ("all", 10): 3_010, ("indoor", 1): 112, ("indoor", 10): 1_120},
    trials=10,
)


ARCHIVE_ROOT = "SYSU-MM01"
DAY = (1980, 1, 1, 0, 0, 0)  # the bytes of the archive do not depend on the clock
QUALITY = 95
# At this quality a pixel with noise of standard deviation s takes about OFFSET + SLOPE * ln(s) bits. Measured.
OFFSET, SLOPE = {False: -0.63, True: 0.53}, {False: 2.25, True: 1.67}


def draw(identity: int, camera: int, number: int) -> bytes:
    """A JPEG file of noise on a colour; each has its own pixels, the same ones in every run.

    100 to 200 x 250 to 500 pixels and 20 to 30 KiB, as SYSU-MM01's. Infrared images have three equal channels.
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


def draw_cell(cell: tuple[int, int, int]) -> list[bytes]:
    """All images of one identity by one camera."""
    identity, camera, count = cell
    return [draw(identity, camera, number) for number in range(1, count + 1)]


def write_archive(target: Path, listing: Listing, *, workers: int) -> None:
    """Draw every image of a listing into a zip archive; the bytes do not depend on the number of processes."""
    cells = [(identity, camera, count) for (identity, camera), count in listing.cells.items()]
    listed = {split: sorted(listing.identities[split]) for split in SPLITS}
    listed["available"] = sorted(identity for members in listed.values() for identity in members)
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive,
        progress_bar(total=listing.size, desc="draw", unit="image") as bar,
        # spawn: forked copies of a process with threads may hang.
        multiprocessing.get_context("spawn").Pool(workers, cv2.setNumThreads, (1,)) as pool,
    ):
        for name, identities in listed.items():
            path = f"{ARCHIVE_ROOT}/exp/{name}_id.txt"
            archive.writestr(zipfile.ZipInfo(path, DAY), ",".join(map(str, identities)))
        drawn = pool.imap(draw_cell, cells, chunksize=4)
        for (identity, camera, count), files in zip(cells, drawn, strict=True):
            for number, data in enumerate(files, start=1):
                path = f"{ARCHIVE_ROOT}/cam{camera}/{identity:04d}/{number:04d}.jpg"
                archive.writestr(zipfile.ZipInfo(path, DAY), data)
            bar.update(count)


TEST_IMAGES = 10_578
TEST_IDENTITIES = 96


def read_test_cells(permutations: Path) -> Cells:
    """Images of each test identity and camera.

    Args:
        permutations: Place of rand_perm_cam.mat. It knows people of all lists, so that the test list must lie next to
            it: test_id.mat, as in the published evaluation code, or test_id.txt, as in the data set.

    Raises:
        UserError: A file is missing, is something else, or is not about the published test part.
    """
    tables = read_permutations(permutations)
    identities = _test_identities(permutations.parent)
    cells = {cell: table.shape[1] for cell, table in tables.items() if cell[0] in identities}
    found = len({identity for identity, _ in cells}), sum(cells.values())
    if found != (TEST_IDENTITIES, TEST_IMAGES):
        raise UserError(
            f"{permutations} and the test list next to it give {found[0]} people and {found[1]:,} images, not "
            f"{TEST_IDENTITIES} and {TEST_IMAGES:,}; take both files from SYSU-MM01's evaluation code"
        )
    return cells


def _test_identities(folder: Path) -> set[int]:
    matrix, text = folder / "test_id.mat", folder / "test_id.txt"
    try:
        if matrix.is_file():
            return {int(number) for number in load_mat(matrix)["id"].ravel()}
        if text.is_file():
            return {int(number) for number in re.findall(r"\d+", text.read_text(encoding="utf-8"))}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(
            f"{matrix if matrix.is_file() else text} is no list of test identities ({error!r})"
        ) from error
    raise UserError(
        f"{folder} holds neither test_id.mat nor test_id.txt: the permutation file knows the people of all lists, so "
        "put the test list next to it; both come with SYSU-MM01's evaluation code"
    )


INTERVAL = 0.2  # seconds between two readings of the memory, or more:
SHARE = 0.02  # of the time, at most, goes into reading it


@dataclass(frozen=True)
class Measured:
    """Cost of a program.

    Attributes:
        status: Exit status.
        seconds: From start to end.
        cpu_seconds: Processor time, user and system, of all its processes.
        peak_bytes: Largest sum of the processes' proportional set sizes (PSS), read up to five times a second. A page
            that several processes share counts once; pages of mapped files in memory count too.
    """

    status: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run_measured(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Measured:
    """Run a program to its end. An interruption ends the program with all processes that it has started."""
    before, started, peak = _cpu_seconds(), time.perf_counter(), 0
    process = subprocess.Popen(command, cwd=cwd, env=dict(env), start_new_session=True)
    try:
        while process.poll() is None:
            reading = time.process_time()
            with suppress(psutil.Error):
                first = psutil.Process(process.pid)
                peak = max(peak, sum(map(_memory, [first, *first.children(recursive=True)])))
            took = time.process_time() - reading
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(INTERVAL, took / SHARE))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Measured(process.returncode, time.perf_counter() - started, _cpu_seconds() - before, peak)


def _cpu_seconds() -> float:
    """Of the children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _memory(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        memory = process.memory_full_info()
        return getattr(memory, "pss", memory.uss)
    return 0


FEATURES = ("bnneck", "pooled", "random", "colour histogram")
FIGURES = ("cmc", "distances", "heatmaps", "top10", "training", "tsne")


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
    """Look at the outputs of every stage, in their order.

    Args:
        project: The folder in which the stages ran.
        expected: What must come out.
        sampler: Of the galleries.

    Raises:
        OSError, KeyError, ValueError: An output is missing or is something else.
    """
    yield from _download(project, expected)
    yield from _preprocess(project, expected)
    yield from _embed(project, expected)
    yield from _evaluate(project, expected, sampler)
    found = sorted(path.stem for path in (project / paths.FIGURES).glob("*.png") if path.stat().st_size)
    yield Check("visualize: figures", found, list(FIGURES))


def _download(project: Path, expected: Expected) -> Iterator[Check]:
    report = _json(project / paths.DOWNLOAD_REPORT)
    if expected.published:
        yield Check("download: compared with the published numbers", report["compared"], True)
        yield Check("download: differences", report["differences"], [])
    test = {
        count["camera"]: (count["identities"], count["images"])
        for count in report["counts"]
        if count["part"] == "test"
    }
    yield Check("download: test identities and images by camera", test, dict(expected.test_cameras))


def _preprocess(project: Path, expected: Expected) -> Iterator[Check]:
    with (project / paths.MANIFEST).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] != END]
    found = Counter((row["split"], row["modality"]) for row in rows)
    yield Check("preprocess: images by split and modality", dict(found), dict(expected.images))
    # Every image differs: this finds a file that was read twice or under another name.
    yield Check("preprocess: different files", len({row["sha256"] for row in rows}), len(rows))
    report = _json(project / paths.PREPROCESS_REPORT)
    yield Check("preprocess: unreadable or converted", report["unreadable"] + report["converted"], [])
    for split in ("train", "test"):
        array = np.load(project / paths.images_of(split), mmap_mode="r", allow_pickle=False)
        images = sum(count for (of, _), count in expected.images.items() if of == split)
        shape = (images, report["height"], report["width"], 3)
        yield Check(f"preprocess: array of {split}", (array.shape, str(array.dtype)), (shape, "uint8"))


def _embed(project: Path, expected: Expected) -> Iterator[Check]:
    images = sum(count for (split, _), count in expected.images.items() if split == "test")
    with np.load(project / paths.embeddings_of("test"), allow_pickle=False) as arrays:
        for name in ("pooled", "bnneck"):
            finite = bool(np.isfinite(arrays[name]).all())
            yield Check(f"embed: finite features, {name}", (len(arrays[name]), finite), (images, True))


def _evaluate(project: Path, expected: Expected, sampler: str) -> Iterator[Check]:
    reports = {
        (report["mode"], report["shots"], report["sampler"], report["feature"]): report
        for report in _json(project / paths.METRICS_REPORT)
    }
    wanted = {(*protocol, sampler, feature) for protocol in expected.gallery for feature in FEATURES}
    complete = Check("evaluate: reports", sorted(reports), sorted(wanted))
    yield complete
    if not complete.holds:
        return
    for mode, shots in expected.gallery:
        numbers = (
            expected.queries,
            expected.valid_queries[mode],
            expected.gallery[mode, shots],
            expected.trials,
        )
        names = ("queries", "valid_queries", "gallery", "trials")
        found = {
            tuple(reports[mode, shots, sampler, feature][name] for name in names) for feature in FEATURES
        }
        yield Check(f"evaluate: queries, valid ones, gallery, trials of {mode}-{shots}shot", found, {numbers})


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Rehearsal:
    """What is rehearsed.

    Attributes:
        listing: The images.
        expected: The numbers that must come out.
        overrides: Changes to presets/sysu-mm01.yaml, by dotted key.
        workers: Processes that draw, decode and resize.
        permutations: rand_perm_cam.mat for the galleries of the sampler `official`; None for the sampler `agw`.
    """

    listing: Listing
    expected: Expected
    overrides: Mapping[str, Any]
    workers: int
    permutations: Path | None = None

    @property
    def sampler(self) -> str:
        """Of the galleries."""
        return "official" if self.permutations else "agw"


class RehearsalError(Exception):
    """A stage failed, or its outputs cannot be read."""


def rehearse(folder: Path, rehearsal: Rehearsal) -> tuple[dict[str, Measured], list[Check]]:
    """Draw the images, run the stages and compare their outputs.

    Args:
        folder: For the archive, and a project with `data`, `results` and `mlruns`; about 9 GiB at the real size.
        rehearsal: What is rehearsed.

    Returns:
        The cost of each stage, and all numbers, right or wrong.

    Raises:
        UserError: The disk has no room, or an override is wrong.
        RehearsalError: A stage failed, or its outputs cannot be read.
    """
    archive, project = folder / "SYSU-MM01.zip", folder / "project"
    project.mkdir(parents=True)
    write_params(project, rehearsal)
    _check_space(project, images=rehearsal.listing.size)
    write_archive(archive, rehearsal.listing, workers=rehearsal.workers)
    link = project / "data" / "source" / PRESET
    link.parent.mkdir(parents=True)
    link.symlink_to(archive)
    if rehearsal.permutations:
        copy = project / PERMUTATIONS
        copy.parent.mkdir(parents=True)
        shutil.copyfile(rehearsal.permutations, copy)
    variables = environment(project, workers=rehearsal.workers)
    measured = {}
    for stage in STAGES:
        print(f"\n{stage}", flush=True)
        command = [sys.executable, "-m", f"pipelines.stages.{stage}"]
        measured[stage] = run_measured(command, cwd=project, env=variables)
        if status := measured[stage].status:
            raise RehearsalError(f"{stage} ended with exit status {status}; its messages are above")
    try:
        return measured, list(checks(project, rehearsal.expected, sampler=rehearsal.sampler))
    except (OSError, KeyError, ValueError) as error:
        raise RehearsalError(f"an output is missing or is not what it should be: {error!r}") from error


PERMUTATIONS = Path("data/permutations/rand_perm_cam.mat")


def write_params(project: Path, rehearsal: Rehearsal) -> None:
    """The preset with the changes of a rehearsal.

    Raises:
        UserError: An override is wrong.
    """
    apply_preset(ROOT, PRESET, target=project / PARAMS)
    overrides = {
        "model.weights": "none",
        "train.epochs": 1,
        "train.steps_per_epoch": 1,
        "evaluate.samplers": [rehearsal.sampler],
        "tracking.experiment": "rehearsal-sysu-mm01",
        **({"evaluate.permutations": str(PERMUTATIONS)} if rehearsal.permutations else {}),
        **rehearsal.overrides,
    }
    apply_overrides(project / PARAMS, overrides)
    load_params(project / PARAMS)


def environment(project: Path, *, workers: int) -> dict[str, str]:
    """Variables under which the stages run this code and write into the project alone."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in MACHINE or not name.startswith(SURROUNDINGS)
    }
    return {
        **kept,
        **settings.QUIET,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]),
        "MSCLNET_HOME": str(project),
        "MSCLNET_PROJECT": str(project),
        "MSCLNET_WORKERS": str(workers),
    }


def _check_space(project: Path, *, images: int) -> None:
    size = load_params(project / PARAMS).preprocess
    # Each file is in two archives, and once in an array.
    needed = images * (2 * FILE_BYTES + 3 * size.height * size.width) + OTHER_BYTES
    free = shutil.disk_usage(project).free
    if needed > free:
        raise UserError(
            f"{project}: {needed / GIB:.1f} GiB are needed, {free / GIB:.1f} GiB are free; set TMPDIR, or give --keep, "
            "to a folder on another disk"
        )


def conclude(
    measured: Mapping[str, Measured], checks: Sequence[Check], *, images: int, conditions: Mapping[str, Any]
) -> bool:
    """Print the results and write them to results/rehearsal/sysu-mm01.json; returns whether every number is right.

    A missed target decides nothing: the machine may be busy.
    """
    preprocess = measured["preprocess"]
    rate = images / preprocess.seconds / conditions["workers"]
    targets = [
        Target("preprocess, each core", rate, 400, least=True, unit="images/s"),
        Target("preprocess, peak memory", preprocess.peak_bytes / GIB, 1.5, least=False, unit="GiB"),
        Target(
            "evaluate, all protocols and features", measured["evaluate"].seconds, 30, least=False, unit="s"
        ),
    ]
    print(f"\n{'stage':20}{'seconds':>10}{'CPU seconds':>13}{'peak GiB':>10}")
    for name, cost in measured.items():
        print(f"{name:20}{cost.seconds:10.1f}{cost.cpu_seconds:13.1f}{cost.peak_bytes / GIB:10.2f}")
    print("Peak: largest sum of the processes' proportional set sizes (PSS), mapped files included.\n")
    print(*targets, sep="\n")
    print(f"preprocess, images in a second of processor time: {images / preprocess.cpu_seconds:.0f}\n")
    for check in checks:
        print(f"{'ok   ' if check.holds else 'WRONG'} {check.what}: {check.found}")
    for check in (check for check in checks if not check.holds):
        print(
            f"error: {check.what}: found {check.found}, expected {check.expected}; the run is worth nothing"
        )
    numbers = [
        {"what": c.what, "found": str(c.found), "expected": str(c.expected), "holds": c.holds} for c in checks
    ]
    write_json(
        REPORT,
        {
            "settings": dict(conditions),
            "load_at_the_end": round(os.getloadavg()[0], 1),
            "stages": {name: asdict(cost) for name, cost in measured.items()},
            "targets": [{**asdict(target), "met": target.met} for target in targets],
            "numbers": numbers,
        },
    )
    print(f"\nall of it: {REPORT}")
    return all(check.holds for check in checks)


def main() -> None:
    """The command line. Exit code 1: a stage failed or a number is wrong; 2: a mistake of the user's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal", description=__doc__)
    parser.add_argument(
        "--permutations",
        type=Path,
        metavar="PATH",
        help="rand_perm_cam.mat, with test_id.mat or test_id.txt next to it: the test part is as published image by "
        "image and galleries are the official ones (default: a made-up test part with the same totals, sampler agw)",
    )
    parser.add_argument(
        "--backbone",
        choices=("slim", "resnet50"),
        help="default: resnet50 on a GPU, slim without one: on two cores resnet50 embeds for twenty minutes or more, "
        "with bf16 for ten",
    )
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="of embed (default: fp32)"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep all files in this new or empty folder"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: the machine's cores)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        report_user_errors(lambda: run(**vars(arguments)))
    except KeyboardInterrupt:
        sys.exit(130)


def run(
    *, permutations: Path | None, backbone: str | None, precision: str, keep: Path | None, workers: int | None
) -> None:
    """Rehearse, print and write the report.

    Raises:
        UserError: An argument is wrong, or the disk has no room.
        SystemExit: A stage failed or a number is wrong.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: give 1 or more")
    workers = workers or settings.cores()
    backbone = backbone or ("resnet50" if settings.device().type == "cuda" else "slim")
    permutations = permutations.expanduser() if permutations else None
    test = read_test_cells(permutations) if permutations else None
    overrides: dict[str, Any] = {"model.backbone": backbone, "embed.precision": precision}
    rehearsal = Rehearsal(
        listing=full_listing(test),
        expected=SYSU_MM01,
        overrides=overrides,
        workers=workers,
        permutations=permutations,
    )
    images = sum(rehearsal.expected.images.values())
    with _folder(keep) as folder:
        try:
            measured, checks = rehearse(folder, rehearsal)
        except RehearsalError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(FAILED) from error
    conditions = {
        "backbone": backbone,
        "precision": precision,
        "sampler": rehearsal.sampler,
        "workers": workers,
    }
    if not conclude(measured, checks, images=images, conditions=conditions):
        raise SystemExit(FAILED)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="rehearse-sysu-") as name:
            yield Path(name)
        return
    folder = keep.expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or os.listdir(folder)):
        raise UserError(f"--keep {keep}: it exists and is not empty; name a new folder")
    yield folder


if __name__ == "__main__":
    main()
