"""How cost grows with identities, images and gallery."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.core.growth import Curve
from benchmarks.core.result import Row, Section
from benchmarks.core.settings import Settings
from benchmarks.core.turns import in_turns
from benchmarks.growing import gallery, identities, images
from benchmarks.growing.operation import Operation

QUICK_SIZES = 3
BUDGET = 30.0  # seconds an operation


def run(settings: Settings) -> Section:
    """Time each operation at all its sizes in turns, and fit the exponent."""
    operations: Sequence[Callable[[], Operation]] = [
        *identities.OPERATIONS,
        *images.OPERATIONS,
        *gallery.OPERATIONS,
    ]
    curves = [curve(make(), settings) for make in operations]
    return Section(
        key="growth",
        title="How cost grows",
        text=(
            "The exponent is the slope on log axes over the larger half of the sizes: 1 is linear, 0 constant, and up "
            "to 1.1 counts as linear."
        ),
        rows=[
            Row(
                name=f"{each.name}, {each.sizes[0]:,} to {each.sizes[-1]:,} {each.axis}",
                value=each.exponent,
                unit="(exponent)",
                note="; ".join(
                    filter(None, ["at most linear" if each.at_most_linear else "MORE than linear", each.note])
                ),
            )
            for each in curves
        ],
        curves=curves,
    )


def curve(operation: Operation, settings: Settings) -> Curve:
    """Medians at each size, interleaved."""
    sizes = operation.sizes[:QUICK_SIZES] if settings.quick else operation.sizes
    ways: Mapping[str, Callable[[], object]] = {str(size): operation.make(size) for size in sizes}
    timings = in_turns(ways, turns=settings.turns(5), budget=BUDGET)
    return Curve(
        name=operation.name,
        axis=operation.axis,
        sizes=list(sizes),
        seconds=[timings.median(str(size)) for size in sizes],
        note=operation.note,
    )
