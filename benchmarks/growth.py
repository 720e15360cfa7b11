"""How cost grows with the number of identities, of images, and of gallery images."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.networks import build, preset, random_images
from benchmarks.tables import Row, Section
from benchmarks.timing import Settings, exponent, in_turns
from msclnet.datasets.records import Record
from msclnet.embedding import embed_images
from msclnet.images.sampler import IdentitySampler
from msclnet.images.table import Entry, Rows, read_manifest, write_manifest
from msclnet.losses.baseline import identity_loss
from msclnet.models.heads import BNNeck
from msclnet.retrieval.distance import rank_gallery
from msclnet.retrieval.ranking import rank


@dataclass(frozen=True)
class Operation:
    """What is timed at growing sizes."""

    name: str
    axis: str  # what the sizes count
    sizes: Sequence[int]  # ascending
    make: Callable[
        [int], Callable[[], object]
    ]  # from a size to the call that is timed; preparing it is not timed
    note: str = ""


IDENTITIES = (100, 300, 1000, 3000, 10_000, 30_000)
PER_IDENTITY = 8  # images, half of them infrared
FEATURE_WIDTH, BATCH = 2048, 64


def rows_of(identities: int) -> Rows:
    """A training split with eight images of each identity."""
    count = identities * PER_IDENTITY
    cameras = np.resize([1, 2, 4, 5, 3, 6, 3, 6], count)
    return Rows(np.arange(count) // PER_IDENTITY, cameras, np.isin(cameras, (3, 6)), np.full(count, ""))


def sampler(rows: Rows) -> IdentitySampler:
    return IdentitySampler(rows, identities=8, images=4, seed=0)


def set_up() -> Operation:
    """The sampler looks at every image once."""

    def make(size: int) -> Callable[[], object]:
        rows = rows_of(size)
        return lambda: sampler(rows)

    return Operation(
        "setting up the sampler",
        "identities",
        IDENTITIES,
        make,
        note=f"{PER_IDENTITY} images of each identity",
    )


def draw() -> Operation:
    """One batch."""

    def make(size: int) -> Callable[[], object]:
        ready = sampler(rows_of(size))
        steps = iter(range(10**9))
        return lambda: ready.batch(next(steps))

    return Operation("drawing a batch", "identities", IDENTITIES, make)


def classify() -> Operation:
    """BNNeck, classifier and identity loss of a batch, forward and backward."""

    def make(size: int) -> Callable[[], object]:
        torch.manual_seed(0)
        neck = BNNeck(FEATURE_WIDTH, size)
        features = torch.randn(BATCH, FEATURE_WIDTH, requires_grad=True)
        labels = torch.arange(BATCH) % size

        def step() -> None:
            neck.zero_grad(set_to_none=True)
            identity_loss(neck(features)[1], labels).backward()

        return step

    return Operation(
        "classifier and identity loss",
        "identities",
        IDENTITIES,
        make,
        note=f"{BATCH} images, forward and backward",
    )


def manifest() -> Operation:
    """Reading the table of all images."""
    folder = tempfile.TemporaryDirectory()

    def make(size: int) -> Callable[[], object]:
        path = Path(folder.name) / f"{size}.csv"  # the closure keeps the folder as long as it is read
        records = (
            Record(
                path=f"cam1/{i:07d}.jpg",
                identity=i // 20,
                camera=1 + i % 6,
                modality="visible",
                split="train",
            )
            for i in range(size)
        )
        write_manifest(path, (Entry(record, "0" * 64) for record in records))
        return lambda: read_manifest(path, "train")

    return Operation("reading the manifest", "images", (1000, 3000, 10_000, 30_000, 100_000), make)


def embedding() -> Operation:
    """The default preset's network, in batches of 64."""
    network = build(preset("synthetic"), identities=100)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def make(size: int) -> Callable[[], object]:
        images = random_images(size).numpy()
        infrared = np.arange(size) % 2 == 0
        return lambda: embed_images(network, images, infrared, batch=64)

    return Operation("embedding, slim network", "images", (128, 256, 512, 1024), make)


GALLERY = (1000, 3000, 10_000, 30_000, 100_000)
GALLERY_WIDTH, QUERIES = 256, 16


def features(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, GALLERY_WIDTH), dtype=np.float32)


def ranking() -> Operation:
    """CMC, mAP and mINP from given distances; ten gallery images of each identity."""

    def make(size: int) -> Callable[[], object]:
        distances = np.random.default_rng(0).random((QUERIES, size), dtype=np.float32)
        gallery = np.arange(size) // 10
        return lambda: rank(distances, np.arange(QUERIES), gallery)

    return Operation("ranking", "gallery images", GALLERY, make, note=f"{QUERIES} queries")


def whole_order() -> Operation:
    """Every query's whole gallery in order."""

    def make(size: int) -> Callable[[], object]:
        queries, gallery = features(QUERIES, 0), features(size, 1)
        return lambda: rank_gallery(queries, gallery)

    return Operation(
        "search, whole order",
        "gallery images",
        GALLERY,
        make,
        note=f"{QUERIES} queries; sorts, which is G log G in theory",
    )


QUICK_SIZES = 3
BUDGET = 30.0  # seconds an operation
TOLERANCE = 0.1  # of an exponent: the effect of caches and of the rounding of block sizes
OPERATIONS = (set_up, draw, classify, manifest, embedding, ranking, whole_order)


def run(settings: Settings) -> Section:
    """Time each operation at all its sizes in turns, and fit the exponent."""
    text = (
        "The exponent is the slope on log axes over the larger half of the sizes: 1 is linear, 0 constant, and up to "
        "1.1 counts as linear."
    )
    rows = [measure(make(), settings) for make in OPERATIONS]
    return Section(key="growth", title="How cost grows", text=text, rows=rows)


def measure(operation: Operation, settings: Settings) -> Row:
    """The exponent of one operation, from its medians in interleaved turns."""
    sizes = operation.sizes[:QUICK_SIZES] if settings.quick else operation.sizes
    ways: Mapping[str, Callable[[], object]] = {str(size): operation.make(size) for size in sizes}
    timings = in_turns(ways, turns=settings.turns(5), budget=BUDGET)
    seconds = [timings.median(str(size)) for size in sizes]
    found = exponent(sizes, seconds)
    verdict = "at most linear" if found <= 1 + TOLERANCE else "MORE than linear"
    return Row(
        name=f"{operation.name}, {sizes[0]:,} to {sizes[-1]:,} {operation.axis}",
        value=found,
        unit="(exponent)",
        note="; ".join(filter(None, [verdict, f"{1e3 * seconds[-1]:.3g} ms at most", operation.note])),
    )
