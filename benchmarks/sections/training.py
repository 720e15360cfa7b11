"""The training step: ResNet-50, 288 x 144, last stride 1, the baseline's losses and the whole method's."""

from collections.abc import Callable
from statistics import median

from benchmarks.core.limits import has_bf16, product_rates, product_ways
from benchmarks.core.operations import count_operations
from benchmarks.core.presets import BASELINE, WHOLE, preset
from benchmarks.core.result import Section
from benchmarks.core.rows import network_row
from benchmarks.core.settings import Settings, device, synchroniser
from benchmarks.core.target import Target
from benchmarks.core.training_step import Step, our_step, textbook_step
from benchmarks.core.turns import in_turns

BATCH = {"cpu": 32, "cuda": 64}
QUICK_BATCH = 16
BUDGET = 200.0  # seconds
BUDGET_COMPILED = 200.0  # on top, since compiling alone takes minutes
TIMES, SHARE, GPU_MS = 2.4, 70.0, 30.0
REFERENCE = "textbook, baseline, fp32 contiguous"
OURS = "ours, baseline, bf16 channels last"
WHOLE_PLAIN = "ours, whole method, fp32 contiguous"
WHOLE_OURS = "ours, whole method, bf16 channels last"


def run(settings: Settings) -> Section:
    """Measure every way in turns."""
    on = device()
    images = settings.batch or (QUICK_BATCH if settings.quick else BATCH[on.type])
    baseline, whole = preset(BASELINE), preset(WHOLE)

    def ours(parameters, precision: str, channels_last: bool, compiled: bool = False) -> Step:
        return our_step(
            parameters,
            images=images,
            precision=precision,
            channels_last=channels_last,
            device=on,
            compiled=compiled,
        )

    ways: dict[str, tuple[Step, str]] = {
        REFERENCE: (textbook_step(baseline, images=images, device=on), "fp32"),
        "ours, baseline, fp32 contiguous": (ours(baseline, "fp32", False), "fp32"),
        "ours, baseline, fp32 channels last": (ours(baseline, "fp32", True), "fp32"),
        OURS: (ours(baseline, "bf16", True), "bf16"),
        WHOLE_PLAIN: (ours(whole, "fp32", False), "fp32"),
        WHOLE_OURS: (ours(whole, "bf16", True), "bf16"),
    }
    operations = {
        name: count_operations(step, precision=precision) for name, (step, precision) in ways.items()
    }
    if settings.compile:
        for name, parameters in ((OURS, baseline), (WHOLE_OURS, whole)):
            compiled = f"{name}, compiled"
            ways[compiled] = (ours(parameters, "bf16", True, True), "bf16")
            operations[compiled] = operations[
                name
            ]  # the same work; counting it would break the compiled graph
    precisions = ["fp32", "bf16"] if has_bf16(on) else ["fp32"]
    timed: dict[str, Callable[[], object]] = {name: step for name, (step, _) in ways.items()}
    for precision in precisions:
        timed |= product_ways(precision, on)
    timings = in_turns(
        timed,
        turns=settings.turns(7),
        budget=BUDGET + settings.compile * BUDGET_COMPILED,
        synchronise=synchroniser(on),
    )
    rates = {precision: product_rates(timings, precision, on) for precision in precisions}
    rows = [
        network_row(
            name,
            timings,
            images=images,
            reference=REFERENCE,
            operations=operations[name],
            rates=rates,
            note=f"{timings.times(name, WHOLE_PLAIN):.2f} x the whole method in fp32 contiguous"
            if name.startswith(WHOLE_OURS)
            else "",
        )
        for name in ways
    ]
    found = next(row for row in rows if row.name == OURS)
    targets = [
        Target(
            "training step, baseline, bf16, times the textbook's", found.times, TIMES, least=True, unit="x"
        ),
        Target(
            "training step, baseline, bf16, share of the bf16 product limit",
            None if found.share is None else 100 * found.share,
            SHARE,
            least=True,
            unit="%",
            reason="not applicable: no bf16 instructions",
        ),
        Target(
            "training step of 64 images on a GPU, bf16",
            found.value if on.type == "cuda" and images == BATCH["cuda"] else None,
            GPU_MS,
            least=False,
            unit="ms",
            reason="not measured: " + ("another batch" if on.type == "cuda" else "no GPU"),
        ),
    ]
    return Section(
        key="training",
        title="Training step",
        text=(
            f"ResNet-50, 288 x 144, last stride 1, {images} images a step (half of them infrared): forward, losses, "
            "backward, update. The textbook implements the baseline (AGW) alone and starts from normalised floats; "
            "ours starts from uint8. The limit is the time of the step's products alone: convolutions in the step's "
            "precision, heads and losses always in fp32, each at the rate of the fastest square product of the same "
            "precision in the same turns."
        ),
        reference=REFERENCE,
        rows=rows,
        targets=targets,
        limits={f"{precision} product, GFLOP/s": median(rate) / 1e9 for precision, rate in rates.items()},
    )
