"""Feeding: whole training batches through the loader's process boundary, and a GPU that waits for them."""

import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.core.limits import reading_rates, reading_ways
from benchmarks.core.people import people
from benchmarks.core.presets import HEIGHT, WHOLE, WIDTH, preset
from benchmarks.core.result import Row, Section
from benchmarks.core.rows import rate_row
from benchmarks.core.settings import Settings, device
from benchmarks.core.target import Target
from benchmarks.core.training_step import our_step
from benchmarks.core.turns import Timings, in_turns
from msclnet.images.augmentation import build_augmentation
from msclnet.images.batches import TrainingBatches, step_loader
from msclnet.images.sampler import IdentitySampler
from msclnet.images.table import Rows, open_array
from pipelines import settings as machine

COUNT = 2048
BATCH = 64  # 8 identities, 4 visible and 4 infrared images each
SKIPPED, BATCHES = 10, 60  # of a turn: the first ones may have been made ahead
RATE = 2200.0
INSIDE, OUTSIDE = "in the training process itself", "through one worker process"
ON_GPU = "training on a GPU, fed by the loader"


def run(settings: Settings) -> Section:
    """Images a second out of the loader, with and without a process of its own."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        batches = training_batches(Path(folder), count=256 if settings.quick else COUNT)
        reading = reading_ways(torch.device("cpu"))
        seconds: dict[str, list[float]] = {name: [] for name in (INSIDE, OUTSIDE, *reading)}
        for _ in range(settings.turns(7)):
            for name, workers in ((INSIDE, 0), (OUTSIDE, 1)):
                seconds[name].append(seconds_of(batches, workers=workers))
            for name, read in in_turns(reading, turns=1).seconds.items():
                seconds[name] += read
        gpu = on_gpu(batches, settings)
    timings = Timings(seconds)
    images = BATCHES * BATCH
    ideal = [images * HEIGHT * WIDTH * 3 / rate for rate in reading_rates(timings, torch.device("cpu"))]
    rows = [
        rate_row(
            name,
            timings,
            per_call=images,
            unit="images/s",
            reference=INSIDE,
            ideal=ideal,
            limit="reading",
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
        targets=[
            Target("one worker process feeds", rows[1].value, RATE, least=True, unit="images/s"),
        ],
    )


def training_batches(folder: Path, *, count: int) -> TrainingBatches:
    """Batches from a memory map, of identities that were seen by six cameras."""
    parameters = preset(WHOLE)
    np.save(folder / "images.npy", np.resize(people(16), (count, HEIGHT, WIDTH, 3)))
    cameras = np.resize([1, 2, 4, 5, 3, 6, 3, 6], count)
    rows = Rows(np.arange(count) // 32, cameras, np.isin(cameras, (3, 6)), np.full(count, ""))
    batch = parameters["train"]["batch"]
    sampler = IdentitySampler(
        rows,
        identities=batch["identities"],
        images=batch["images"],
        seed=0,
        sampling=batch["sampling"],
    )
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
    on = device()
    if on.type != "cuda":
        return Row(name=ON_GPU, note="not measured: no GPU")
    workers = machine.workers(min(8, machine.cores()))
    steps = 20 if settings.quick else 100
    step = our_step(preset(WHOLE), images=BATCH, precision="bf16", channels_last=True, device=on)
    loader = iter(step_loader(batches, first=0, last=SKIPPED + steps, workers=workers, pinned=True))

    def fed() -> tuple[torch.cuda.Event, torch.cuda.Event]:
        batch = next(loader)
        marks = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
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
        note=f"{workers} worker processes; the whole method in bf16",
    )
