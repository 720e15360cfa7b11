"""Small galleries without a network: the embedding of an image is its pixels, made coarse."""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from msclnet.gallery.adding import Added, add_sources, compare
from msclnet.gallery.embedding import embed_in_threads, prepare_file
from msclnet.gallery.schema import GalleryModel, image_id
from msclnet.gallery.sources import Sources, folder_sources
from msclnet.gallery.store import Gallery
from msclnet.images.user_files import SearchModel

HEIGHT, WIDTH = 32, 16
PATTERN = "{camera}_{time:%Y%m%dT%H%M%S}_*"


def coarse_pixels(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """uint8 (N, 32, 16, 3) -> float32 (N, 25): 4 x 2 pixels of each channel, and the modality."""
    pixels = images[:, 4::8, 4::8].reshape(len(images), -1).astype(np.float32) - 127.5
    return np.concatenate([pixels, np.where(infrared, 20, -20)[:, None].astype(np.float32)], axis=1)


def other_pixels(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """Another embedding of another width."""
    return coarse_pixels(255 - images[:, ::-1], infrared)[:, 3:] ** 3


MODEL = SearchModel(coarse_pixels, HEIGHT, WIDTH, {"folder": "coarse"}, digest="c0a53e")
OTHER = SearchModel(other_pixels, HEIGHT, WIDTH, {"folder": "other"}, digest="07e4")
DESCRIPTION = GalleryModel(MODEL.digest, "coarse", HEIGHT, WIDTH, dimensions=25)
OTHER_DESCRIPTION = GalleryModel(OTHER.digest, "other", HEIGHT, WIDTH, dimensions=22)


def photo(path: Path, seed: int, *, colour: bool = True) -> Path:
    """A lossless image file of random blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 2, 3 if colour else 1), dtype=np.uint8)
    image = Image.fromarray(np.repeat(blocks, 1 if colour else 3, axis=2))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST).save(path)
    return path


def photos(folder: Path, count: int = 6) -> list[Path]:
    """Every third is infrared; cameras c0 and c1, a day apart."""
    return [
        photo(folder / f"c{i % 2}_202611{1 + i:02}T083000_{i} ü.png", i, colour=i % 3 != 2)
        for i in range(count)
    ]


def add(gallery: Gallery, sources: Sources | Path, model: SearchModel = MODEL, *, batch: int = 2) -> Added:
    """As the command does it; a folder's names are read by PATTERN."""
    if isinstance(sources, Path):
        sources = folder_sources(sources, pattern=PATTERN)
    prepare = partial(prepare_file, height=model.height, width=model.width)
    with gallery.locked():
        return add_sources(
            gallery,
            sources,
            compare(gallery, sources),
            lambda images: embed_in_threads(images, prepare, model, gallery.schema, threads=2, batch=batch),
        )


def rows_of(vectors_ND: np.ndarray, **columns: list[Any]) -> pa.Table:
    """Rows of a gallery from embeddings, which are L2-normalised first."""
    count, width = vectors_ND.shape
    unit = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    paths = columns.pop("path", [f"/images/{number}.png" for number in range(count)])
    vectors = pa.array(unit.astype(np.float16).ravel())
    filled: dict[str, Any] = {
        "id": [image_id(path, "00") for path in paths],
        "path": paths,
        "sha256": ["00"] * count,
        "size": [1] * count,
        "modified": [1] * count,
        "camera": [None] * count,
        "time": [None] * count,
        "modality": ["visible"] * count,
        "identity": [None] * count,
        "crop": [b"crop"] * count,
    }
    types = {"camera": pa.string(), "identity": pa.string(), "time": pa.timestamp("us")}
    arrays = {name: pa.array(columns.get(name, values), types.get(name)) for name, values in filled.items()}
    return pa.table(arrays | {"vector": pa.FixedSizeListArray.from_arrays(vectors, width)})


def day(number: int) -> datetime:
    """Of November 2026."""
    return datetime(2026, 11, number)
