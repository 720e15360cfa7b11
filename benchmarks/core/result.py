"""What a section of the benchmarks hands over: plain values, ready for a table, a plot and JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.core.growth import Curve
from benchmarks.core.target import Target


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Attributes:
        name: What was measured.
        value: Median; None where it could not be measured.
        unit: Of the value and of the quartiles.
        quartiles: First and third, over the turns.
        times: How many times as fast as the section's reference, the median of the ratios within the turns.
        limit: What the machine can do at most, in words with its value, measured in the same turns.
        share: Of the limit, from 0 to 1; None where there is no such limit here.
        note: Anything else; why there is no value.
    """

    name: str
    value: float | None = None
    unit: str = ""
    quartiles: tuple[float, float] | None = None
    times: float | None = None
    limit: str = ""
    share: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One part of the benchmarks.

    Attributes:
        key: Its short name on the command line.
        title: Its heading.
        text: Conditions: sizes, threads, what is compared with what.
        reference: The row that `times` refers to.
        rows: In the order of the table.
        targets: Those that this section decides.
        curves: How cost grows.
        limits: Limits by name, with their unit in the name.
    """

    key: str
    title: str
    text: str
    reference: str = ""
    rows: Sequence[Row] = ()
    targets: Sequence[Target] = ()
    curves: Sequence[Curve] = ()
    limits: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with each curve's exponent and each target's verdict."""
        values = asdict(self)
        for shown, curve in zip(values["curves"], self.curves, strict=True):
            shown["exponent"] = curve.exponent
        for shown, target in zip(values["targets"], self.targets, strict=True):
            shown["verdict"] = target.verdict
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Section":
        """The inverse of `as_dict`."""
        targets, curves = (
            [{name: value for name, value in each.items() if name != derived} for each in values[key]]
            for key, derived in (("targets", "verdict"), ("curves", "exponent"))
        )
        rows = [
            Row(**{**row, "quartiles": tuple(row["quartiles"]) if row["quartiles"] else None})
            for row in values["rows"]
        ]
        return cls(
            **{
                **values,
                "rows": rows,
                "targets": [Target(**each) for each in targets],
                "curves": [Curve(**each) for each in curves],
            }
        )
