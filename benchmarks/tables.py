"""Results of the benchmarks: rows, sections and targets; as Markdown and JSON, with the machine that they are from."""

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.timing import NO_BF16, Timings, ideal_seconds
from pipelines import settings
from pipelines.stages.paths import write_json

GIB = 2**30


@dataclass(frozen=True)
class Target:
    """A measured value with its bound."""

    what: str
    found: float | None  # None where it could not be measured
    limit: float
    least: bool  # whether the limit is the least or the most that is allowed
    unit: str
    reason: str = ""  # why it was not measured

    @property
    def met(self) -> bool | None:
        """Whether it is kept; None where nothing was measured."""
        if self.found is None:
            return None
        return self.found >= self.limit if self.least else self.found <= self.limit

    @property
    def bound(self) -> str:
        """The limit in words."""
        return f"{'at least' if self.least else 'at most'} {self.limit:g}{_unit(self.unit)}"

    @property
    def verdict(self) -> str:
        """`met`, `MISSED`, or why neither."""
        if self.met is None:
            return self.reason or "not measured"
        return "met" if self.met else "MISSED"

    def __str__(self) -> str:
        found = "" if self.found is None else f"{self.found:.4g}{_unit(self.unit)}, "
        return f"{self.what}: {found}{self.bound}: {self.verdict}"


def _unit(unit: str) -> str:
    return unit if unit in ("%", "x") else f" {unit}"


@dataclass(frozen=True)
class Row:
    """One measured value: the median over the turns, and the first and third quartile."""

    name: str
    value: float | None = None  # None where it could not be measured
    unit: str = ""  # of the value and of the quartiles
    quartiles: Sequence[float] | None = None
    times: float | None = (
        None  # as fast as the section's reference: the median of the ratios within the turns
    )
    limit: str = ""  # what the machine can do at most, with its value, measured in the same turns
    share: float | None = None  # of the limit, from 0 to 1; None where there is no such limit here
    note: str = ""  # anything else; why there is no value


@dataclass(frozen=True)
class Section:
    """One part of the benchmarks."""

    key: str  # on the command line
    title: str
    text: str  # conditions: sizes, threads, what is compared with what
    reference: str = ""  # the row that `times` refers to
    rows: Sequence[Row] = ()
    targets: Sequence[Target] = ()
    limits: Mapping[str, float] = field(default_factory=dict)  # by name, with the unit in the name

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the verdict of each target."""
        values = asdict(self)
        for shown, target in zip(values["targets"], self.targets, strict=True):
            shown["verdict"] = target.verdict
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Section":
        """The inverse of `as_dict`."""
        targets = [{name: each[name] for name in each if name != "verdict"} for each in values["targets"]]
        rows = [Row(**row) for row in values["rows"]]
        return cls(**{**values, "rows": rows, "targets": [Target(**each) for each in targets]})


def rate_row(
    name: str,
    timings: Timings,
    *,
    per_call: int,
    unit: str,
    reference: str = "",
    ideal: Sequence[float] | None = None,
    limit: str = "",
) -> Row:
    """A row of a rate.

    Args:
        name: The way's name in the timings.
        timings: Of the section.
        per_call: How many a call makes.
        unit: Such as `images/s`.
        reference: The way that `times` refers to; none if empty.
        ideal: Seconds of a call at the limit, by turn.
        limit: What the limit is.
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
    """A row of milliseconds for a batch, next to the time that its products alone would take.

    Args:
        name: The way's name in the timings.
        timings: Of the section.
        images: In a batch.
        reference: The way that `times` refers to.
        operations: Floating-point operations of a batch by precision.
        rates: Operations a second, by precision and turn; where one is missing, there is no share.
        note: For the row.
    """
    median, (first, third) = timings.median(name), timings.quartiles(name)
    known = all(precision in rates for precision in operations)
    ideal = ideal_seconds(operations, rates) if known else None
    described = f"{images / median:.0f} images/s"
    return Row(
        name=name,
        value=median * 1e3,
        unit="ms",
        quartiles=(first * 1e3, third * 1e3),
        times=timings.times(name, reference),
        limit=NO_BF16 if ideal is None else f"products: {statistics.median(ideal) * 1e3:.0f} ms",
        share=None if ideal is None else timings.share(name, ideal),
        note=f"{described}; {note}" if note else described,
    )


PACKAGES = ("torch", "numpy", "openvino", "dvc")
BUSY = 0.3  # of a core that others use, on average, before the start


def facts() -> dict[str, Any]:
    """The machine and the versions, as plain values."""
    return {
        "date": date.today().isoformat(),
        "processor": processor(),
        "cores": settings.cores(),
        "memory_GiB": round(psutil.virtual_memory().total / GIB),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in PACKAGES},
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "load": round(os.getloadavg()[0], 2),
    }


def processor() -> str:
    """The model's name and the instructions that matter here."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor() or platform.machine()
    lines: dict[str, str] = {}
    for line in information.read_text().splitlines():
        name, _, value = line.partition(":")
        lines[name.strip()] = value.strip()
    flags = set(lines.get("flags", lines.get("Features", "")).split())
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16") if name in flags]
    return f"{lines.get('model name', platform.machine())} ({', '.join(known) or 'no vector instructions known'})"


def installed(package: str) -> str:
    """Its version, or `not installed`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "What": lambda row: row.name,
    "Median": lambda row: "" if row.value is None else f"{number(row.value)} {row.unit}",
    "Quartiles": lambda row: "" if row.quartiles is None else " to ".join(map(number, row.quartiles)),
    "Times the reference": lambda row: "" if row.times is None else f"{number(row.times)} x",
    "Limit": lambda row: row.limit,
    "Share of it": lambda row: "" if row.share is None else f"{100 * row.share:.0f} %",
    "Note": lambda row: row.note,
}


def document(facts: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """The whole report; `facts` as of `facts()`."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    machine = (
        f"Date: {facts['date']}. Machine: {facts['cores']} cores of {facts['processor']}, {facts['memory_GiB']} GiB; "
        f"GPU: {facts['gpu']}. {facts['system']}, Python {facts['python']}, {versions}."
    )
    if facts["load"] > BUSY:
        machine += (
            f" **The machine was busy** (load {facts['load']} before the start): trust the ratios alone."
        )
    parts = [
        "# Benchmarks",
        machine,
        "Medians over interleaved turns: all rows of a section run in turns in one process, so that ratios hold where "
        "times do not. A ratio is the median of the ratios within the turns, and so is a share of a limit.",
        "## Targets",
        targets(sections),
    ]
    for section in sections:
        parts += [f"## {section.title}", section.text]
        if section.limits:
            measured = "; ".join(f"{name}: {number(value)}" for name, value in section.limits.items())
            parts.append(f"Limits in the same turns: {measured}.")
        if section.reference:
            parts.append(f"Reference: {section.reference}.")
        parts.append(table(section.rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def targets(sections: Sequence[Section]) -> str:
    """All targets with what was found."""
    lines = [
        (
            target.what,
            "" if target.found is None else f"{number(target.found)} {target.unit}",
            target.bound,
            target.verdict,
        )
        for section in sections
        for target in section.targets
    ]
    return grid(("Target", "Found", "Asked for", ""), lines) if lines else "None was decided."


def table(rows: Sequence[Row]) -> str:
    """Rows with those columns that any of them fills."""
    if not rows:
        return ""
    cells = {name: [show(row) for row in rows] for name, show in COLUMNS.items()}
    used = [name for name, column in cells.items() if any(column)]
    return grid(used, list(zip(*(cells[name] for name in used), strict=True)))


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def number(value: float) -> str:
    """Three significant digits; from 100 on whole numbers, with a comma between thousands."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write_report(folder: Path, facts: Mapping[str, Any], sections: Sequence[Section]) -> None:
    """Write bench.md and bench.json into a folder."""
    write_json(folder / "bench.json", {"machine": facts, "sections": [s.as_dict() for s in sections]})
    (folder / "bench.md").write_text(document(facts, sections), encoding="utf-8")
