"""Rows of a table from timings."""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.core.limits import ideal_seconds
from benchmarks.core.result import Row
from benchmarks.core.turns import Timings


def rate_row(
    name: str,
    timings: Timings,
    *,
    per_call: int,
    unit: str,
    reference: str = "",
    ideal: Sequence[float] | None = None,
    limit: str = "",
    note: str = "",
) -> Row:
    """A row of so many things a second.

    Args:
        name: The way's name in the timings.
        timings: Of the section.
        per_call: Things that one call makes.
        unit: Such as `images/s`.
        reference: The way that `times` refers to; none if empty.
        ideal: Seconds of a call at the limit, by turn.
        limit: What the limit is.
        note: For the row.
    """
    fast, slow = timings.quartiles(name)
    return Row(
        name=name,
        value=per_call / timings.median(name),
        unit=unit,
        quartiles=(per_call / slow, per_call / fast),
        times=timings.times(name, reference) if reference else None,
        limit="" if ideal is None else f"{limit}: {per_call / statistics.median(ideal):,.0f} {unit}",
        share=None if ideal is None else timings.share(name, ideal),
        note=note,
    )


def seconds_row(
    name: str,
    timings: Timings,
    *,
    reference: str = "",
    ideal: Sequence[float] | None = None,
    limit: str = "",
    note: str = "",
) -> Row:
    """A row of seconds, or of milliseconds where there is less than one second; arguments as for `rate_row`."""
    median, quartiles = timings.median(name), timings.quartiles(name)
    scale, unit = (1.0, "s") if median >= 1 else (1e3, "ms")
    return Row(
        name=name,
        value=median * scale,
        unit=unit,
        quartiles=(quartiles[0] * scale, quartiles[1] * scale),
        times=timings.times(name, reference) if reference else None,
        limit="" if ideal is None else f"{limit}: {statistics.median(ideal) * scale:.3g} {unit}",
        share=None if ideal is None else timings.share(name, ideal),
        note=note,
    )


def network_row(
    name: str,
    timings: Timings,
    *,
    images: int,
    reference: str,
    operations: Mapping[str, float],
    rates: Mapping[str, Sequence[float]],
    note: str = "",
) -> Row:
    """A row of milliseconds for a batch, beside the time that its products alone would take.

    Args:
        name: The way's name in the timings.
        timings: Of the section.
        images: In a batch.
        reference: The way that `times` refers to.
        operations: Floating-point operations of a batch by precision.
        rates: Those that the machine did in a second of each turn, by precision; a missing one makes the share not
            applicable.
        note: For the row.
    """
    median, quartiles = timings.median(name), timings.quartiles(name)
    known = all(precision in rates for precision in operations)
    ideal = ideal_seconds(operations, rates) if known else None
    described = f"{images / median:.0f} images/s"
    return Row(
        name=name,
        value=median * 1e3,
        unit="ms",
        quartiles=(quartiles[0] * 1e3, quartiles[1] * 1e3),
        times=timings.times(name, reference),
        limit="not applicable: no bf16 instructions"
        if ideal is None
        else f"products: {statistics.median(ideal) * 1e3:.0f} ms",
        share=None if ideal is None else timings.share(name, ideal),
        note=f"{described}; {note}" if note else described,
    )
