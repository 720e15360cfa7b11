"""Figures that the project sets itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A figure with its bound.

    Attributes:
        what: Its name.
        found: Measured; None where it could not be.
        limit: As required.
        least: Whether the limit is the least or the most that is allowed.
        unit: Of both.
        reason: Why it was not measured.
    """

    what: str
    found: float | None
    limit: float
    least: bool
    unit: str
    reason: str = ""

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
