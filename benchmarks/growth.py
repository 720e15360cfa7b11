"""How cost grows with the number of identities, of images, and of gallery images."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
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
from msclnet.models.network import MSCLNet
from msclnet.retrieval.distance import rank_gallery
from msclnet.retrieval.ranking import rank

PER_IDENTITY = 8  # images, half of them infrared
FEATURE_WIDTH, BATCH = 2048, 64
GALLERY_WIDTH, QUERIES = 256, 16

# Each of these prepares an operation at one size, untimed, and returns the call that is timed.
Call = Callable[[], object]


def set_up(identities: int) -> Callable[[], IdentitySampler]:
    """The sampler of a training split with eight images of each identity looks at every image once."""
    count = identities * PER_IDENTITY
    cameras = np.resize([1, 2, 4, 5, 3, 6, 3, 6], count)
    rows = Rows(np.arange(count) // PER_IDENTITY, cameras, np.isin(cameras, (3, 6)), np.full(count, ""))
    return lambda: IdentitySampler(rows, identities=8, images=4, seed=0)


def draw(identities: int) -> Call:
    """One batch."""
    sampler, steps = set_up(identities)(), iter(range(10**9))
    return lambda: sampler.batch(next(steps))


def classify(identities: int) -> Call:
    """BNNeck, classifier and identity loss of a batch, forward and backward."""
    torch.manual_seed(0)
    neck = BNNeck(FEATURE_WIDTH, identities)
    features = torch.randn(BATCH, FEATURE_WIDTH, requires_grad=True)
    labels = torch.arange(BATCH) % identities

    def step() -> None:
        neck.zero_grad(set_to_none=True)
        identity_loss(neck(features)[1], labels).backward()

    return step


def manifest(images: int) -> Call:
    """Reading the table of all images."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "manifest.csv"
    records = (Record(f"cam1/{i:07d}.jpg", i // 20, 1 + i % 6, "visible", "train") for i in range(images))
    write_manifest(path, (Entry(record, "0" * 64) for record in records))
    return lambda: (folder, read_manifest(path, "train"))  # the folder lasts as long as this function


@cache
def slim_network() -> MSCLNet:
    """The default preset's."""
    network = build(preset("synthetic"), identities=100)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def embedding(images: int) -> Call:
    """In batches of 64."""
    pixels, infrared = random_images(images).numpy(), np.arange(images) % 2 == 0
    return lambda: embed_images(slim_network(), pixels, infrared, batch=64)


def ranking(gallery: int) -> Call:
    """CMC, mAP and mINP from given distances; ten gallery images of each identity."""
    distances = np.random.default_rng(0).random((QUERIES, gallery), dtype=np.float32)
    return lambda: rank(distances, np.arange(QUERIES), np.arange(gallery) // 10)


def whole_order(gallery: int) -> Call:
    """Every query's whole gallery in order."""
    queries, others = (
        np.random.default_rng(seed).standard_normal((count, GALLERY_WIDTH), dtype=np.float32)
        for seed, count in enumerate((QUERIES, gallery))
    )
    return lambda: rank_gallery(queries, others)


@dataclass(frozen=True)
class Operation:
    """What is timed at growing sizes."""

    name: str
    axis: str  # what the sizes count
    sizes: Sequence[int]  # ascending
    make: Callable[[int], Call]
    note: str = ""


IDENTITIES = (100, 300, 1000, 3000, 10_000, 30_000)
IMAGES = (1000, 3000, 10_000, 30_000, 100_000)  # and of a gallery
SORTS = f"{QUERIES} queries; sorts, which is G log G in theory"
OPERATIONS = (
    Operation("setting up the sampler", "identities", IDENTITIES, set_up, "8 images of each identity"),
    Operation("drawing a batch", "identities", IDENTITIES, draw),
    Operation(
        "classifier and identity loss", "identities", IDENTITIES, classify, "64 images, forward and backward"
    ),
    Operation("reading the manifest", "images", IMAGES, manifest),
    Operation("embedding, slim network", "images", (128, 256, 512, 1024), embedding),
    Operation("ranking", "gallery images", IMAGES, ranking, f"{QUERIES} queries"),
    Operation("search, whole order", "gallery images", IMAGES, whole_order, SORTS),
)
QUICK_SIZES = 3
BUDGET = 30.0  # seconds an operation
TOLERANCE = 0.1  # of an exponent: the effect of caches and of the rounding of block sizes


def run(settings: Settings) -> Section:
    """Time each operation at all its sizes in turns, and fit the exponent."""
    text = (
        "The exponent is the slope on log axes over the larger half of the sizes: 1 is linear, 0 constant, and up to "
        "1.1 counts as linear."
    )
    rows = [measure(operation, settings) for operation in OPERATIONS]
    return Section(key="growth", title="How cost grows", text=text, rows=rows)


def measure(operation: Operation, settings: Settings) -> Row:
    """The exponent of one operation, from its medians in interleaved turns."""
    sizes = operation.sizes[:QUICK_SIZES] if settings.quick else operation.sizes
    ways = {str(size): operation.make(size) for size in sizes}
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
