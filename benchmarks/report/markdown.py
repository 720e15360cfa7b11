"""The report as Markdown: targets first, then one table for each section."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.core.facts import busy
from benchmarks.core.result import Row, Section

COLUMNS: dict[str, Callable[[Row], str]] = {
    "What": lambda row: row.name,
    "Median": lambda row: "" if row.value is None else f"{number(row.value)} {row.unit}",
    "Quartiles": lambda row: "" if row.quartiles is None else " to ".join(map(number, row.quartiles)),
    "Times the reference": lambda row: "" if row.times is None else f"{number(row.times)} x",
    "Limit": lambda row: row.limit,
    "Share of it": lambda row: "" if row.share is None else f"{100 * row.share:.0f} %",
    "Note": lambda row: row.note,
}


def document(facts: Mapping[str, Any], sections: Sequence[Section], *, picture: str) -> str:
    """The whole report.

    Args:
        facts: See benchmarks.core.facts.
        sections: Those that were run.
        picture: Name of the picture beside the report.
    """
    parts = [
        "# Benchmarks",
        machine(facts),
        "Medians over interleaved turns: all rows of a section run in turns in one process, so that ratios hold where "
        "times do not. A ratio is the median of the ratios within the turns, and so is a share of a limit.",
        f"![All figures at a glance]({picture})",
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


def machine(facts: Mapping[str, Any]) -> str:
    """One paragraph: where and when."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    text = (
        f"Date: {facts['date']}. Machine: {facts['cores']} cores of {facts['processor']}, {facts['memory_GiB']} GiB; "
        f"GPU: {facts['gpu']}. {facts['system']}, Python {facts['python']}, {versions}."
    )
    if busy(facts["load"]):
        text += f" **The machine was busy** (load {facts['load']} before the start): trust the ratios alone."
    return text


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
    """Three digits that count, and thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
