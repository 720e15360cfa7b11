"""Input: training images a second by one core, step by step, and whole batches out of the loader."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch

from benchmarks.networks import HEIGHT, WHOLE, WIDTH, jpeg, load, our_step, people, preset
from benchmarks.tables import Row, Section, Target, measured_row
from benchmarks.timing import Settings, Timings, in_turns, precisions, reading_seconds, reading_ways
from msclnet.images.augmentation import augmentation_steps, build_augmentation
from msclnet.images.batches import TrainingBatches, step_loader
from msclnet.images.sampler import IdentitySampler
from msclnet.images.table import Rows, open_array
from pipelines import settings as machine

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
        timings = in_turns({**ways, **reading_ways()}, turns=settings.turns(9), budget=60)
    reference = list(ways)[-1]
    ideal = reading_seconds(timings, IMAGES * BYTES)
    rows = [
        measured_row(name, timings, per_call=IMAGES, unit="images/s", ideal=ideal, limit="reading")
        for name in ways
        if name != reference
    ]
    rows.append(measured_row(reference, timings, per_call=FEWER, unit="images/s"))
    slowest = rows[-1].value or 1.0
    return Section(
        key="input",
        title="Input, one core",
        text=(
            f"Training images of 288 x 144 in a second, augmented as in presets/{WHOLE}.yaml; each row does what the "
            "row above it does, and one thing more. The limit is reading the images' bytes once."
        ),
        reference=reference,
        rows=[replace(row, times=(row.value or 0.0) / slowest) for row in rows],
    )


def cumulative(augment: dict[str, Any]) -> dict[str, A.Compose]:
    """The augmentation cut off after each of its steps."""
    transforms: list[A.BasicTransform | A.BaseCompose] = []
    cut = {}
    for name, steps in augmentation_steps(augment, height=HEIGHT, width=WIDTH).items():
        if steps:
            transforms = [*transforms, *steps]
            cut[STEPS[name]] = A.Compose(transforms)
    return cut


def augmented(transform: A.Compose, source: Callable[[int], np.ndarray]) -> Callable[[int], np.ndarray]:
    """Image of a row, transformed."""
    return lambda row: transform(image=source(row))["image"]


BATCH = 64  # 8 identities, 4 visible and 4 infrared images each
SKIPPED, BATCHES = 10, 60  # of a turn: the first ones may have been made ahead
RATE = 2200.0
INSIDE, OUTSIDE = "in the training process itself", "through one worker process"
ON_GPU = "training on a GPU, fed by the loader"


def feeding(settings: Settings) -> Section:
    """Images a second out of the loader, with and without a process of its own."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        batches = training_batches(Path(folder), count=256 if settings.quick else COUNT)
        reading = reading_ways()
        seconds: dict[str, list[float]] = {name: [] for name in (INSIDE, OUTSIDE, *reading)}
        for _ in range(settings.turns(7)):
            for name, workers in ((INSIDE, 0), (OUTSIDE, 1)):
                seconds[name].append(seconds_of(batches, workers=workers))
            for name, read in in_turns(reading, turns=1).seconds.items():
                seconds[name] += read
        gpu = on_gpu(batches, settings)
    timings = Timings(seconds)
    images = BATCHES * BATCH
    ideal = reading_seconds(timings, images * BYTES)
    rows = [
        measured_row(
            name, timings, per_call=images, unit="images/s", reference=INSIDE, ideal=ideal, limit="reading"
        )
        for name in (INSIDE, OUTSIDE)
    ]
    return Section(
        key="feeding",
        title="Feeding a training",
        text=(
            f"Batches of {BATCH} augmented uint8 images of 288 x 144, as the training takes them from its loader. "
            "The worker process has a core to itself only where the machine has two to spare. The limit is reading the "
            "images' bytes once."
        ),
        reference=INSIDE,
        rows=[*rows, gpu],
        targets=[Target("one worker process feeds", rows[1].value, RATE, least=True, unit="images/s")],
    )


def training_batches(folder: Path, *, count: int) -> TrainingBatches:
    """Batches from a memory map, of identities that were seen by six cameras."""
    parameters = preset(WHOLE)
    np.save(folder / "images.npy", np.resize(people(16), (count, HEIGHT, WIDTH, 3)))
    cameras = np.resize([1, 2, 4, 5, 3, 6, 3, 6], count)
    rows = Rows(np.arange(count) // 32, cameras, np.isin(cameras, (3, 6)), np.full(count, ""))
    batch = parameters["train"]["batch"]
    chosen = {name: batch[name] for name in ("identities", "images", "sampling")}
    sampler = IdentitySampler(rows, **chosen, seed=0)
    augmentation = build_augmentation(parameters["augment"], height=HEIGHT, width=WIDTH)
    return TrainingBatches(open_array(folder / "images.npy"), rows, sampler, augmentation)


def seconds_of(batches: TrainingBatches, *, workers: int) -> float:
    """Seconds for BATCHES batches from a loader that is under way."""
    loader = iter(step_loader(batches, first=0, last=SKIPPED + BATCHES, workers=workers, pinned=False))
    for _ in range(SKIPPED):
        next(loader)
    start = time.perf_counter()
    for _ in range(BATCHES):
        next(loader)
    return time.perf_counter() - start


def on_gpu(batches: TrainingBatches, settings: Settings) -> Row:
    """How much of the time a GPU computes while the loader feeds it."""
    on = machine.device()
    if on.type != "cuda":
        return Row(name=ON_GPU, note="not measured: no GPU")
    workers = machine.workers(min(8, machine.cores()))
    steps = 20 if settings.quick else 100
    step = our_step(preset(WHOLE), images=BATCH, precision=precisions(on)[-1], device=on)
    loader = iter(step_loader(batches, first=0, last=SKIPPED + steps, workers=workers, pinned=True))

    def fed() -> list[torch.cuda.Event]:
        batch = next(loader)
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        marks[0].record()
        step(batch)
        marks[1].record()
        return marks

    for _ in range(SKIPPED):
        fed()
    torch.cuda.synchronize()
    start = time.perf_counter()
    marks = [fed() for _ in range(steps)]
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    busy = sum(first.elapsed_time(last) for first, last in marks) / 1e3 / seconds
    return Row(
        name=ON_GPU,
        value=steps * BATCH / seconds,
        unit="images/s",
        share=min(busy, 1.0),
        limit="a GPU that never waits",
        note=f"{workers} worker processes; the whole method in {precisions(on)[-1]}",
    )
