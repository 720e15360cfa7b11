"""From files to rows of a gallery: read, resize, find out the modality, embed."""

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from PIL import Image

from msclnet.datasets.archive import UnreadableFileError, read_plain_file
from msclnet.gallery.schema import MODALITIES, VECTOR, image_id
from msclnet.gallery.sources import Source
from msclnet.images.decode import UnreadableImageError, decode, resize
from msclnet.images.user_files import GREY_SPREAD, SearchModel, Unreadable, channel_spread, contradiction

BATCH = 64  # images at a time through the network
JPEG_QUALITY = 90

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Prepared:
    """An image as the network takes it: uint8 RGB (height, width, 3), and its row without the embedding."""

    pixels: np.ndarray
    row: dict[str, Any]


def embed_in_threads(
    items: Iterable[Item],
    prepare: Callable[[Item], Prepared | Unreadable],
    model: SearchModel,
    schema: pa.Schema,
    *,
    threads: int,
    batch: int = BATCH,
) -> Iterator[tuple[pa.Table, list[Unreadable]]]:
    """Embed images; threads prepare the next ones while the network works.

    Args:
        items: What `prepare` takes.
        prepare: Called in threads.
        model: The gallery's.
        schema: The gallery's.
        threads: That prepare.
        batch: Images at a time through the network.

    Yields:
        Rows of the gallery, and the files that were refused.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Prepared | Unreadable] = []
        for each in _ahead(pool, prepare, items, 2 * batch):
            waiting.append(each)
            if len(waiting) == batch:
                yield _embedded(waiting, model, schema)
                waiting = []
        yield _embedded(waiting, model, schema)


def prepare_file(source: Source, *, height: int, width: int) -> Prepared | Unreadable:
    """Read a file. It is infrared if its three channels are equal, unless its modality is given.

    An image that looks like the other modality than the given one is refused.
    """
    path = Path(source.path)
    try:
        status = path.stat()
        data = read_plain_file(path)
        pixels = resize(decode(data).pixels, height=height, width=width)
    except (UnreadableFileError, UnreadableImageError, OSError) as error:
        return Unreadable(path, getattr(error, "strerror", None) or str(error))
    modality = source.given.get("modality") or MODALITIES[looks_infrared(pixels)]
    if doubt := contradiction(pixels, infrared=modality == "infrared"):
        return Unreadable(path, f"given as {modality}, but {doubt}")
    digest = hashlib.sha256(data).hexdigest()
    row = {
        **source.given,
        "id": image_id(source.path, digest),
        "path": source.path,
        "sha256": digest,
        "size": status.st_size,
        "modified": status.st_mtime_ns,
        "modality": modality,
        "crop": as_jpeg(pixels),
    }
    return Prepared(pixels, row)


def looks_infrared(pixels: np.ndarray) -> bool:
    """Whether the three channels of an image, uint8 RGB (H, W, 3), are equal but for the rounding of JPEG."""
    return channel_spread(pixels) < GREY_SPREAD


def as_jpeg(pixels: np.ndarray) -> bytes:
    """A uint8 RGB image (H, W, 3) as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def embed_prepared(images: list[Prepared], model: SearchModel, schema: pa.Schema) -> pa.Table:
    """Rows of the gallery; the network sees one modality at a time."""
    if not images:
        return schema.empty_table()
    infrared = np.array([image.row["modality"] == MODALITIES[1] for image in images])
    features = model.embed(np.stack([image.pixels for image in images]), infrared)
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    vectors = pa.array(features.astype(np.float16).ravel())
    rows = pa.Table.from_pylist([image.row for image in images], schema=_without_vector(schema))
    place = schema.get_field_index(VECTOR)
    return rows.add_column(
        place, schema.field(VECTOR), pa.FixedSizeListArray.from_arrays(vectors, features.shape[1])
    )


def _embedded(
    images: list[Prepared | Unreadable], model: SearchModel, schema: pa.Schema
) -> tuple[pa.Table, list[Unreadable]]:
    prepared = [each for each in images if isinstance(each, Prepared)]
    return embed_prepared(prepared, model, schema), [each for each in images if isinstance(each, Unreadable)]


def _without_vector(schema: pa.Schema) -> pa.Schema:
    return pa.schema([column for column in schema if column.name != VECTOR])


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Made], items: Iterable[Item], count: int
) -> Iterator[Made]:
    """function(item) of each item in turn, `count` of them ahead."""
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
