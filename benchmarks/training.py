"""The training step: ResNet-50, 288 x 144, last stride 1, the baseline's losses and the whole method's."""

from dataclasses import dataclass, replace
from statistics import median

import torch

from benchmarks.networks import BASELINE, WHOLE, our_step, preset, textbook_step
from benchmarks.tables import Row, Section, Target, network_row
from benchmarks.timing import NO_BF16, Settings, count_operations, precisions, textbook_ways, with_products
from pipelines import settings as machine

BATCH = {"cpu": 32, "cuda": 64}  # 64 is the paper's; all these networks do not fit into 24 GiB with it
QUICK_BATCH = 16
BUDGET = 200.0  # seconds
BUDGET_COMPILED = 200.0  # on top, since compiling alone takes minutes
TIMES, SHARE, GPU_MS = 2.4, 70.0, 30.0
REFERENCE = "textbook, baseline, fp32 contiguous"
OURS = "ours, baseline, bf16 channels last"
WHOLE_PLAIN = "ours, whole method, fp32 contiguous"
WHOLE_OURS = "ours, whole method, bf16 channels last"


@dataclass(frozen=True)
class Way:
    """One of our ways to take a step."""

    name: str
    losses: str  # a preset
    precision: str = "bf16"
    channels_last: bool = True
    compiled: bool = False
    recorded: bool = True


WAYS = (
    Way("ours, baseline, fp32 contiguous", BASELINE, "fp32", channels_last=False),
    Way("ours, baseline, fp32 channels last", BASELINE, "fp32"),
    Way(OURS, BASELINE),
    Way(WHOLE_PLAIN, WHOLE, "fp32", channels_last=False),
    Way(WHOLE_OURS, WHOLE),
)
# On a GPU alone, where the others are started as CUDA graphs.
UNRECORDED = tuple(replace(WAYS[i], name=f"{WAYS[i].name}, kernel by kernel", recorded=False) for i in (2, 4))
COMPILED = tuple(replace(WAYS[i], name=f"{WAYS[i].name}, compiled", compiled=True) for i in (2, 4))


def run(settings: Settings) -> Section:
    """Measure every way in turns."""
    on = machine.device()
    images = settings.batch or (QUICK_BATCH if settings.quick else BATCH[on.type])
    presets = {name: preset(name) for name in (BASELINE, WHOLE)}
    asked = (*WAYS, *(UNRECORDED if on.type == "cuda" else ()), *(COMPILED if settings.compile else ()))
    ways = [way for way in asked if way.precision in precisions(on)]
    common = {"device": on, "images": images, "height": settings.height}
    steps = {
        way.name: our_step(
            presets[way.losses],
            **common,
            precision=way.precision,
            channels_last=way.channels_last,
            compiled=way.compiled,
            recorded=way.recorded,
        )
        for way in ways
    }
    # Counted without compiling, which counting would disturb; the counts hold for the textbook as well.
    operations = {
        (way.losses, way.precision): count_operations(steps[way.name], precision=way.precision)
        for way in ways
        if not way.compiled
    }
    budget = BUDGET + settings.compile * BUDGET_COMPILED
    with textbook_ways(REFERENCE, textbook_step, parameters=presets[BASELINE], **common) as textbook:
        timings, rates = with_products(
            {**textbook, **steps}, device=on, turns=settings.turns(7), budget=budget
        )
    rows = [
        network_row(
            way.name,
            timings,
            images=images,
            reference=REFERENCE,
            operations=operations[way.losses, way.precision],
            rates=rates,
            note=f"{timings.times(way.name, WHOLE_PLAIN):.2f} x the whole method in fp32 contiguous"
            if way.name.startswith(WHOLE_OURS)
            else "",
        )
        for way in (*(Way(name, BASELINE, "fp32") for name in textbook), *ways)
    ]
    rows += [Row(name=way.name, note=NO_BF16) for way in asked if way not in ways]
    return Section(
        key="training",
        title="Training step",
        text=(
            f"ResNet-50, {settings.height} x {settings.height // 2}, last stride 1, {images} images a step (half of "
            "them infrared): forward, losses, backward, update. The textbook implements the baseline (AGW) alone, "
            "starts from normalised floats and has a plain process of its own; ours starts from uint8 in a process "
            "that is set up as the stages are, which keeps freed memory. `memory kept`: the textbook's process does "
            "so as well. The limit is the time of the step's products alone: convolutions in the step's precision, "
            "heads and losses always in fp32, each at the rate of the fastest square product of the same precision "
            "in the same turns."
        ),
        reference=REFERENCE,
        rows=rows,
        targets=targets_of({row.name: row for row in rows}, on, images=images),
        limits={f"{precision} product, GFLOP/s": median(rate) / 1e9 for precision, rate in rates.items()},
    )


def targets_of(rows: dict[str, Row], on: torch.device, *, images: int) -> list[Target]:
    """What is asked of a CPU and of a GPU; without the other one that part is not measured."""
    # A compiled step is ours as well, where it was asked for.
    ours = max((row for name, row in rows.items() if name.startswith(OURS)), key=lambda row: row.times or 0.0)
    cpu, gpu = on.type == "cpu", on.type == "cuda" and images == BATCH["cuda"]
    step, reason = f"training step on a CPU ({ours.name})", NO_BF16 if cpu else "not measured: on a GPU"
    share = 100 * ours.share if cpu and ours.share is not None else None
    no_gpu = f"not measured: {'no GPU' if cpu else 'another batch'}"
    return [
        Target(f"{step}, times the textbook's", ours.times if cpu else None, TIMES, True, "x", reason),
        Target(f"{step}, share of the product limit", share, SHARE, True, "%", reason),
        *(
            Target(
                f"training step of 64 images on a GPU, {name}",
                rows[row].value if gpu else None,
                GPU_MS,
                least=False,
                unit="ms",
                reason=no_gpu,
            )
            for name, row in (("baseline, bf16", OURS), ("whole method, bf16", WHOLE_OURS))
        ),
    ]
