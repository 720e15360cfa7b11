"""Our own figures as texts and tables, each with the conditions that it was measured under."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.reporting.document import Column, Row, Table
from pipelines.scoring import REFERENCES, processing, protocol_name, trials

METRICS = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "rank20": "Rank-20",
    "mAP": "mAP",
    "mINP": "mINP",
}


def network_reports(reports: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The reports of trained features, without the references that learn nothing."""
    return [report for report in reports if report["feature"] not in REFERENCES]


def percent(value: Mapping[str, Any] | None, *, unit: float = 100, deviation: bool = True) -> str:
    """`12.34 ± 0.56`, or the mean alone where there is no deviation; empty for None.

    Args:
        value: `mean` and `std` (None: there is none).
        unit: What both are multiplied by to be percentages.
        deviation: Whether the deviation is shown.
    """
    if value is None:
        return ""
    mean = f"{unit * value['mean']:.2f}"
    return mean if value["std"] is None or not deviation else f"{mean} ± {unit * value['std']:.2f}"


def conditions(report: Mapping[str, Any]) -> str:
    """What a reader must know about a figure besides data set, mode, shots and direction."""
    sampler = f"gallery sampler {report['sampler']}, " if report["sampler"] else ""
    parts = [f"feature {report['feature']}, {sampler}{trials(dict(report))}", processing(dict(report))]
    if embedding := report.get("embedding"):
        parts.append(f"embedded in {embedding['precision']} by {embedding['backend']}")
    return ", ".join(parts)


def measured_table(reports: Sequence[Mapping[str, Any]], caption: str) -> Table:
    """Every figure of the reports, one row a report."""
    figures = [Column(title, number=True) for title in METRICS.values()]
    rows = [
        Row([protocol_name(dict(r)), *(percent(r[metric]) for metric in METRICS), conditions(r)])
        for r in reports
    ]
    return Table([Column("Protocol"), *figures, Column("Conditions")], rows, caption)
