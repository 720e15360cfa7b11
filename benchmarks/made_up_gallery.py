"""Made-up galleries for the benchmarks, and searches in one that a process of its own asks: it loads no torch.

The vectors look like embeddings: people in clusters, and most of the variance in few directions.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from msclnet.gallery.index import TOP
from msclnet.gallery.schema import GalleryModel, image_id
from msclnet.gallery.store import Gallery

WIDTH, DIRECTIONS, IMAGES_A_PERSON = 512, 64, 20
CAMERAS = 20  # one of them is 5 % of the images
CHUNK = 50_000
QUERIES = 60


def clustered(people: np.ndarray, generator: np.random.Generator, *, width: int = WIDTH) -> np.ndarray:
    """Embeddings of images of numbered people, float16 (N, width), L2-normalised."""
    number = int(people.max()) + 1
    places = np.random.default_rng(11).standard_normal((number, DIRECTIONS), dtype=np.float32)
    mixing = np.random.default_rng(7).standard_normal((DIRECTIONS, width), dtype=np.float32)
    mixing *= np.linspace(1, 0.3, DIRECTIONS, dtype=np.float32)[:, None]
    count = len(people)
    within = generator.standard_normal((count, DIRECTIONS), dtype=np.float32)
    noise = generator.standard_normal((count, width), dtype=np.float32)
    vectors = (places[people] + 0.45 * within) @ mixing + 0.6 * noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def chunks(count: int, *, width: int = WIDTH) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Embeddings and camera numbers of `count` images, some at a time."""
    generator = np.random.default_rng(3)
    for start in range(0, count, CHUNK):
        rows = np.arange(start, min(start + CHUNK, count))
        yield (
            clustered(rows // IMAGES_A_PERSON, generator, width=width),
            generator.integers(0, CAMERAS, len(rows)),
        )


def query_vectors(count: int, *, width: int = WIDTH) -> np.ndarray:
    """Further images of people of the gallery, float32 (QUERIES, width)."""
    people = np.random.default_rng(5).integers(0, count // IMAGES_A_PERSON, QUERIES)
    return clustered(people, np.random.default_rng(6), width=width).astype(np.float32)


def filled_gallery(
    folder: Path, count: int, *, width: int = WIDTH, crops: Sequence[bytes] = (b"",)
) -> Gallery:
    """A gallery of made-up embeddings; the crops, JPEG files, are used in turn."""
    gallery = Gallery.create(folder, GalleryModel("d", "m", 288, 144, dimensions=width))
    start = 0
    for vectors, cameras in chunks(count, width=width):
        paths = [f"/images/{number}.jpg" for number in range(start, start + len(vectors))]
        constant = {"sha256": "0" * 64, "size": 1, "modified": 1, "modality": "visible"}
        columns: dict[str, object] = {name: [value] * len(paths) for name, value in constant.items()}
        columns |= {"camera": [f"c{camera}" for camera in cameras], "path": paths}
        columns |= {"id": [image_id(path, "0") for path in paths]}
        columns |= {"crop": [crops[number % len(crops)] for number in range(start, start + len(paths))]}
        columns |= {
            name: pa.nulls(len(paths), gallery.schema.field(name).type) for name in ("time", "identity")
        }
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width)
        gallery.table.add(pa.table(columns).select(gallery.schema.names).cast(gallery.schema))
        start += len(vectors)
    return gallery


def exact_answers(count: int, queries: np.ndarray) -> dict[str, list[set[str]]]:
    """Paths of the exact first ten of each query, without and with the filter, chunk by chunk."""
    found: dict[str, list[np.ndarray]] = {
        name: [np.empty((0, 2))] * len(queries) for name in ("all", "filter")
    }
    start = 0
    for vectors, cameras in chunks(count):
        similarities = queries @ vectors.astype(np.float32).T
        for name, kept in (("all", np.arange(len(vectors))), ("filter", np.flatnonzero(cameras == 7))):
            for number, row in enumerate(similarities[:, kept]):
                best = np.argsort(-row)[:TOP]
                both = np.concatenate(
                    [found[name][number], np.stack([row[best], start + kept[best]], axis=1)]
                )
                found[name][number] = both[np.argsort(-both[:, 0])[:TOP]]
        start += len(vectors)
    return {
        name: [{f"/images/{int(place)}.jpg" for _, place in each} for each in several]
        for name, several in found.items()
    }


def ask(place: str, queries: np.ndarray, truth: dict[str, list[set[str]]]) -> dict[str, float]:
    """Recall, milliseconds and resident memory of searches in a gallery, without and with the filter."""
    found: dict[str, float] = {}
    gallery = Gallery.open(place)
    for name, cameras in (("all", None), ("filter", ["c7"])):
        gallery.search(queries[0], top=TOP, cameras=cameras)
        shares, seconds = [], []
        for query, expected in zip(queries, truth[name], strict=True):
            started = time.perf_counter()
            matches = gallery.search(query, top=TOP, cameras=cameras)
            seconds.append(time.perf_counter() - started)
            shares.append(len(expected & {match.path for match in matches}) / TOP)
        found[f"recall, {name}"] = float(np.mean(shares))
        found[f"p50, {name}"], found[f"p95, {name}"] = 1e3 * np.percentile(seconds, (50, 95))
    found["memory, GiB"] = psutil.Process().memory_info().rss / 2**30
    return found
