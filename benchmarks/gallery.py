"""Galleries: adding next to the stage embed, searching next to one product by numpy; a million images, indexed."""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks.gallery_page import crops, drops
from benchmarks.made_up_gallery import (
    CAMERAS,
    QUERIES,
    WIDTH,
    ask,
    chunks,
    exact_answers,
    filled_gallery,
    query_vectors,
)
from benchmarks.networks import build, preset, random_images
from benchmarks.tables import Row, Section, Target, measured_row
from benchmarks.timing import Settings, in_turns
from msclnet.embedding import embed_images
from msclnet.gallery.adding import add_sources, compare
from msclnet.gallery.embedding import embed_in_threads, prepare_file
from msclnet.gallery.index import LARGEST_EXACT, TOP, build_index
from msclnet.gallery.schema import GalleryModel, image_id
from msclnet.gallery.sources import Sources, folder_sources
from msclnet.gallery.store import Gallery
from msclnet.images.user_files import SearchModel
from pipelines import settings as variables

PRODUCT, FLAT, INDEXED = (
    "numpy: product and partial sort",
    "gallery without an index",
    "gallery with its index",
)
STAGE, ADDING = "stage embed, arrays in memory", "gallery add, files"


def run(settings: Settings) -> Section:
    """Search at 100,000 images, addition of new images, and a second addition of 10,000 unchanged files."""
    count = 12_000 if settings.quick else 100_000
    rows: list[Row] = []
    targets: list[Target] = []
    for width in (WIDTH, 2048):
        found = searching(count if width == WIDTH else count // 2, width, settings)
        rows += found
        if width == WIDTH:
            times = 1 / float(found[-1].times or np.nan)
            targets.append(
                Target("exact search with the gallery's index, times numpy", times, 3.0, False, "times")
            )
    found, share = adding(64, settings)
    rows += found
    targets.append(Target("gallery add next to the stage embed", share, 0.9, True, "times"))
    milliseconds = page(count, turns=settings.turns(20))
    rows.append(
        Row(name=f"page: from a drop to its results, {count:,} images", value=milliseconds, unit="ms")
    )
    targets.append(Target("page: from a drop to its results", milliseconds, 300.0, False, "ms"))
    files = 500 if settings.quick else 10_000
    seconds = second_addition(files)
    rows.append(Row(name=f"second addition of {files:,} unchanged files", value=seconds, unit="s"))
    targets.append(Target("second addition of unchanged files", seconds, 3.0, False, "s"))
    text = (
        "Clustered vectors, top 10 without a filter; the index is exact at these sizes. Stage and addition embed with "
        "the same ResNet-50 network; the addition also reads and decodes files, and writes the table. The page asks a "
        "server of its own for one search and 20 pictures; the embedding of the query is not counted."
    )
    return Section(key="gallery", title="Galleries", text=text, reference=PRODUCT, rows=rows, targets=targets)


def searching(count: int, width: int, settings: Settings) -> list[Row]:
    """One product and partial sort in fp32, the search without an index, and that with one; all are exact."""
    with tempfile.TemporaryDirectory() as folder:
        gallery = filled_gallery(Path(folder) / "g", count, width=width)
        stored = np.concatenate([vectors for vectors, _ in chunks(count, width=width)]).astype(np.float32)
        queries = query_vectors(count, width=width)
        build_index(gallery)
        turn = iter(range(10**9))

        def product() -> set[int]:
            similarities = stored @ queries[next(turn) % QUERIES]
            best = np.argpartition(-similarities, TOP)[:TOP]
            return set(best[np.argsort(-similarities[best])].tolist())

        def search(exact: bool) -> set[str]:
            return {
                match.path for match in gallery.search(queries[next(turn) % QUERIES], top=TOP, exact=exact)
            }

        ways = {PRODUCT: product, FLAT: lambda: search(True), INDEXED: lambda: search(False)}
        timings = in_turns(ways, turns=settings.turns(9), budget=60)
        label = f", {count:,} x {width}"
        return [
            measured_row(name, timings, reference=PRODUCT, note=label.removeprefix(", ")) for name in ways
        ]


def page(count: int, *, turns: int) -> float:
    """Median milliseconds from an image that is dropped to the pictures of its results, without the embedding."""
    with tempfile.TemporaryDirectory() as folder:
        build_index(filled_gallery(Path(folder) / "g", count, crops=crops()))
        return 1e3 * float(np.median(drops(f"{folder}/g", count, turns=turns)))


def adding(count: int, settings: Settings) -> tuple[list[Row], float]:
    """Images a second of the stage, of arrays in memory, and of an addition, of JPEG files of the same size."""
    device = variables.device()
    network = build(preset("synthetic" if settings.quick else "sysu-mm01")).to(device).eval()
    # As smooth as photos: the time to decode a JPEG grows with its detail.
    images = np.stack(
        [
            np.asarray(Image.fromarray(pixels).resize((settings.height // 2, settings.height)))
            for pixels in random_images(count, height=24).numpy()
        ]
    )
    height, width = images.shape[1:3]
    infrared = np.zeros(count, bool)

    def embed(pixels: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        return embed_images(network, pixels, infrared, batch=64, device=device)[1]

    model = SearchModel(embed, height, width, {})
    described = GalleryModel("d", "m", height, width, dimensions=embed(images[:1], infrared[:1]).shape[1])
    with tempfile.TemporaryDirectory() as folder:
        for number, pixels in enumerate(images):
            Image.fromarray(pixels).save(Path(folder) / f"{number:05}.jpg", quality=90)
        sources = folder_sources(Path(folder), given={"modality": "visible"})
        turn = iter(range(10**9))

        def add() -> None:
            with tempfile.TemporaryDirectory() as target:
                gallery = Gallery.create(Path(target) / str(next(turn)), described)
                prepare = partial(prepare_file, height=height, width=width)
                threads = variables.cores()
                add_sources(
                    gallery,
                    sources,
                    compare(gallery, sources),
                    lambda files: embed_in_threads(files, prepare, model, gallery.schema, threads=threads),
                )

        timings = in_turns(
            {STAGE: lambda: embed(images, infrared), ADDING: add}, turns=settings.turns(5), budget=90
        )
    rows = [
        measured_row(name, timings, per_call=count, unit="images/s", reference=STAGE)
        for name in (STAGE, ADDING)
    ]
    return rows, timings.times(ADDING, STAGE)


def second_addition(count: int) -> float:
    """Seconds to find that all files of a folder are known and unchanged."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for number in range(count):
            (images / f"c{number % 7}_{number:05}.jpg").write_bytes(b"x" * 1000)
        gallery = Gallery.create(Path(folder) / "g", GalleryModel("d", "m", 288, 144, dimensions=WIDTH))
        sources = folder_sources(images)
        gallery.add(_rows_of_files(sources, gallery.schema))
        started = time.perf_counter()
        again = folder_sources(images)
        assert add_sources(gallery, again, compare(gallery, again), None).unchanged == count
        return time.perf_counter() - started


def million(settings: Settings) -> Section:
    """Recall, times and memory of a million images with their index."""
    count = 20_000 if settings.quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "g"
        started = time.perf_counter()
        gallery = filled_gallery(place, count)
        written = time.perf_counter() - started
        started = time.perf_counter()
        build_index(gallery, largest_exact=0 if settings.quick else LARGEST_EXACT)
        built = time.perf_counter() - started
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        queries = query_vectors(count)
        truth = exact_answers(count, queries)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            found = process.submit(ask, str(place), queries, truth).result()
    rows = [
        Row(name="writing the table", value=written, unit="s"),
        Row(name="building the index", value=built, unit="s"),
        Row(name="on the disk, without crops", value=size / 1e6, unit="MB"),
        *(
            Row(name=name, value=value, unit="ms" if name.startswith("p") else "")
            for name, value in found.items()
        ),
    ]
    targets = [Target("resident memory of a process that searches", found["memory, GiB"], 1.0, False, "GiB")]
    for name in ("all", "filter"):
        targets.append(Target(f"recall@10 with the index, {name}", found[f"recall, {name}"], 0.99, True, ""))
        targets.append(Target(f"p95 of a search, {name}", found[f"p95, {name}"], 50.0, False, "ms"))
    text = f"{count:,} x {WIDTH} clustered vectors, {QUERIES} queries; the filter keeps one of {CAMERAS} cameras."
    return Section(
        key="million", title="A gallery of a million images", text=text, rows=rows, targets=targets
    )


def _rows_of_files(sources: Sources, schema: pa.Schema) -> pa.Table:
    rows = []
    for source in sources.images:
        status = Path(source.path).stat()
        computed = {
            "size": status.st_size,
            "modified": status.st_mtime_ns,
            "vector": np.zeros(WIDTH, np.float16),
        }
        known = {"path": source.path, "sha256": "0", "modality": "visible", "crop": b""}
        rows.append({"id": image_id(source.path, "0"), **known, **computed})
    return pa.Table.from_pylist(rows, schema=schema)
