"""Input: how many training images one core makes in a second, step by step, beside decoding the file again."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np

from benchmarks.core.limits import reading_rates, reading_ways
from benchmarks.core.people import jpeg, load
from benchmarks.core.presets import HEIGHT, WHOLE, WIDTH, preset
from benchmarks.core.result import Section
from benchmarks.core.rows import rate_row
from benchmarks.core.settings import Settings
from benchmarks.core.turns import in_turns
from msclnet.images.augmentation import augmentation_steps
from msclnet.images.table import open_array

COUNT = 2048  # images in the memory map: 255 MB, more than the caches hold
FILES = 16
IMAGES = 256  # of one call
FEWER = 64  # of one call that decodes
BYTES = HEIGHT * WIDTH * 3
STEPS = {
    "cropped": "padded and cropped",
    "flipped": "flipped",
    "exchanged": "channels exchanged",
    "erased": "erased",
}


def run(settings: Settings) -> Section:
    """Images a second on one core, medians of interleaved turns."""
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    augment = preset(WHOLE)["augment"]
    files = [jpeg(identity) for identity in range(FILES)]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        decoded = np.stack([load(file) for file in files])
        count = 256 if settings.quick else COUNT
        np.save(path, np.resize(decoded, (count, HEIGHT, WIDTH, 3)))
        images = open_array(path)
        out = np.empty((HEIGHT, WIDTH, 3), np.uint8)

        def way(make: Callable[[int], np.ndarray], calls: int) -> Callable[[], None]:
            def make_some() -> None:
                for row in rng.integers(0, count, calls):
                    np.copyto(out, make(int(row)))

            return make_some

        ways: dict[str, Callable[[], object]] = {"memory map, read": way(lambda row: images[row], IMAGES)}
        for name, transform in cumulative(augment).items():
            ways[f"memory map, {name}"] = way(augmented(transform, lambda row: images[row]), IMAGES)
        last = augmented(list(cumulative(augment).values())[-1], lambda row: load(files[row % FILES]))
        ways["JPEG file, decoded, resized and all of it"] = way(last, FEWER)
        device = torch.device("cpu")
        timings = in_turns({**ways, **reading_ways(device)}, turns=settings.turns(9), budget=60)
    reference = list(ways)[-1]
    rows = [
        rate_row(
            name,
            timings,
            per_call=FEWER if name == reference else IMAGES,
            unit="images/s",
            ideal=[IMAGES * BYTES / rate for rate in reading_rates(timings, device)]
            if name != reference
            else None,
            limit="reading",
        )
        for name in ways
    ]
    slowest = rows[-1].value or 1.0
    return Section(
        key="input",
        title="Input, one core",
        text=(
            f"Training images of 288 x 144 in a second, augmented as in presets/{WHOLE}.yaml; each row does what the "
            "row above it does, and one thing more. The limit is reading the images' bytes once."
        ),
        reference=reference,
        rows=[type(row)(**{**vars(row), "times": (row.value or 0.0) / slowest}) for row in rows],
    )


def cumulative(augment: dict[str, Any]) -> dict[str, A.Compose]:
    """The augmentation cut off after each of its steps."""
    transforms: list[A.BasicTransform | A.BaseCompose] = []
    stages = {}
    for name, steps in augmentation_steps(augment, height=HEIGHT, width=WIDTH).items():
        if not steps:
            continue
        transforms = [*transforms, *steps]
        stages[STEPS[name]] = A.Compose(transforms)
    return stages


def augmented(transform: A.Compose, source: Callable[[int], np.ndarray]) -> Callable[[int], np.ndarray]:
    """Image of a row, transformed."""
    return lambda row: transform(image=source(row))["image"]
