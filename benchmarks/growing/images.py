"""What grows with the number of images."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.core.presets import build, preset, random_images
from benchmarks.growing.operation import Operation
from msclnet.datasets.records import Record
from msclnet.embedding import embed_images
from msclnet.images.table import Entry, read_manifest, write_manifest

AXIS = "images"


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

    return Operation("reading the manifest", AXIS, (1000, 3000, 10_000, 30_000, 100_000), make)


def embedding() -> Operation:
    """The default preset's network, in batches of 64."""
    network = build(preset("synthetic"), identities=100)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def make(size: int) -> Callable[[], object]:
        images = random_images(size).numpy()
        infrared = np.arange(size) % 2 == 0
        return lambda: embed_images(network, images, infrared, batch=64)

    return Operation("embedding, slim network", AXIS, (128, 256, 512, 1024), make)


OPERATIONS = (manifest, embedding)
