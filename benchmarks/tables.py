"""Results of the benchmarks: rows, sections and targets; as Markdown and JSON, with the machine that they are from."""

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch
from pydantic import TypeAdapter, computed_field
from pydantic.dataclasses import dataclass

from benchmarks.timing import Timings, ideal_seconds
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
    reason: str = "not measured"  # where there is no value

    @property
    def bound(self) -> str:
        """The limit in words."""
        return f"{'at least' if self.least else 'at most'} {self.limit:g} {self.unit}"

    @computed_field
    @property
    def verdict(self) -> str:
        """`met`, `MISSED`, or why neither."""
        if self.found is None:
            return self.reason
        return "met" if (self.found >= self.limit if self.least else self.found <= self.limit) else "MISSED"


@dataclass(frozen=True)
class Row:
    """One measured value: the median over the turns, and the first and third quartile."""

    name: str
    value: float | None = None  # None where it could not be measured
    unit: str = ""  # of the value and of the quartiles
    quartiles: Sequence[float] | None = None
    times: float | None = None  # the section's reference: the median of the ratios within the turns
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


JSON = TypeAdapter(Section)


def measured_row(
    name: str,
    timings: Timings,
    *,
    per_call: int = 0,
    unit: str = "",
    reference: str = "",
    ideal: Sequence[float] | None = None,
    limit: str = "",
    note: str = "",
) -> Row:
    """A row of seconds (milliseconds below one second, or where `unit` says so), or of a rate: `per_call` a call.

    `times` refers to the way `reference`; `ideal` are the seconds of a call at the limit, by turn.
    """
    median = timings.median(name)
    unit = unit or ("s" if median >= 1 else "ms")

    def shown(seconds: float) -> float:
        return per_call / seconds if per_call else seconds * (1e3 if unit == "ms" else 1)

    return Row(
        name=name,
        value=shown(median),
        unit=unit,
        quartiles=sorted(map(shown, timings.quartiles(name))),
        times=timings.times(name, reference) if reference else None,
        limit="" if ideal is None else f"{limit}: {number(shown(statistics.median(ideal)))} {unit}",
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
    """A row of milliseconds for a batch of images, next to the time that its products alone would take.

    `operations`: floating-point operations of a batch by precision; `rates`: those a second, by precision and turn.
    """
    note = "; ".join(filter(None, [f"{images / timings.median(name):.0f} images/s", note]))
    ideal = ideal_seconds(operations, rates)
    return measured_row(
        name, timings, unit="ms", reference=reference, ideal=ideal, limit="products", note=note
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
    pairs = (line.partition(":")[::2] for line in information.read_text().splitlines())
    values = {name.strip(): value.strip() for name, value in pairs}
    flags = values.get("flags", values.get("Features", "")).split()
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16") if name in flags]
    return f"{values.get('model name', platform.machine())} ({', '.join(known) or 'no vector instructions known'})"


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
        targets(target for section in sections for target in section.targets),
    ]
    for section in sections:
        parts += [f"## {section.title}", section.text]
        if section.limits:
            measured = "; ".join(f"{name}: {number(value)}" for name, value in section.limits.items())
            parts.append(f"Limits in the same turns: {measured}.")
        if section.reference:
            parts.append(f"Reference: {section.reference}.")
        parts.append(table(section.rows))
    return "\n\n".join(filter(None, parts)) + "\n"


def targets(all_targets: Iterable[Target]) -> str:
    """All targets with what was found."""
    lines = [
        (
            each.what,
            "" if each.found is None else f"{number(each.found)} {each.unit}",
            each.bound,
            each.verdict,
        )
        for each in all_targets
    ]
    return grid(("Target", "Found", "Asked for", ""), lines) if lines else "None was decided."


def table(rows: Sequence[Row]) -> str:
    """Rows with those columns that any of them fills."""
    cells = {name: [show(row) for row in rows] for name, show in COLUMNS.items()}
    used = [name for name, column in cells.items() if any(column)]
    return grid(used, list(zip(*(cells[name] for name in used), strict=True))) if rows else ""


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def number(value: float) -> str:
    """Three significant digits; from 100 on whole numbers, with a comma between thousands."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write_report(folder: Path, facts: Mapping[str, Any], sections: Sequence[Section]) -> None:
    """Write bench.md and bench.json into a folder."""
    found = [JSON.dump_python(section, mode="json") for section in sections]
    write_json(folder / "bench.json", {"machine": facts, "sections": found})
    (folder / "bench.md").write_text(document(facts, sections), encoding="utf-8")
