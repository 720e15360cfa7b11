"""Statistics over seeds and rows: mean, deviation, and the paired difference from the baseline with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msclnet.retrieval.protocols import INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED

_DIRECTIONS = {VISIBLE_TO_INFRARED: "V-I", INFRARED_TO_VISIBLE: "I-V"}


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of n values; a single value has no deviation."""

    mean: float
    std: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.std is None else f"{self.mean:.2f} ± {self.std:.2f}"


@dataclass(frozen=True)
class Difference:
    """Mean of the differences, seed by seed, and its confidence interval; unknown with a single seed.

    Attributes:
        mean: row minus baseline.
        low: lower end, or None.
        high: upper end, or None.
        seeds: the seeds that both have.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: tuple[int, ...]

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:+.2f} (one seed)"
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def spread(values: Sequence[float]) -> Spread:
    """Mean and deviation of at least one value."""
    array = np.asarray(values, np.float64)
    return Spread(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None, len(array))


def paired_difference(
    row: Mapping[int, float], baseline: Mapping[int, float], *, alpha: float = 0.05
) -> Difference | None:
    """Row minus baseline over the seeds that both have, with the interval of the paired t-test.

    It assumes that seeds are independent draws and that the differences are normal. With 3 seeds it is wide, as it has
    to be. Both are scored on the same identities.

    Args:
        row: seed -> figure.
        baseline: seed -> figure.
        alpha: 1 - confidence.

    Returns:
        None where they have no seed in common.
    """
    seeds = tuple(sorted(row.keys() & baseline.keys()))
    if not seeds:
        return None
    differences = np.array([row[seed] - baseline[seed] for seed in seeds])
    mean = float(differences.mean())
    if len(seeds) == 1:
        return Difference(mean, None, None, seeds)
    from scipy.stats import t

    error = float(differences.std(ddof=1)) / np.sqrt(len(seeds))
    reach = float(t.ppf(1 - alpha / 2, df=len(seeds) - 1)) * error
    return Difference(mean, mean - reach, mean + reach, seeds)


@dataclass(frozen=True)
class RowStatistics:
    """A row of a grid over its seeds.

    Attributes:
        name: of the row.
        seeds: those with figures.
        diverged: those whose training diverged.
        spreads: title of a figure -> mean and deviation.
        differences: title of a figure -> paired difference from the baseline; none for the baseline itself.
    """

    name: str
    seeds: tuple[int, ...] = ()
    diverged: tuple[int, ...] = ()
    spreads: dict[str, Spread] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)

    def texts(self) -> dict[str, str]:
        """Column -> cell of a table."""
        figures = {title: str(value) for title, value in self.spreads.items()}
        return figures | {f"{title} - baseline": str(value) for title, value in self.differences.items()}


def headline(record: Mapping[str, Any]) -> dict[str, float]:
    """The few figures of a record that tables show, in percent; empty after a divergence.

    Under score `test` Rank-1 and mAP of the first protocol, or of both directions where these are the protocols (RegDB,
    LLCM); under `validation` the score and both directions' Rank-1.
    """
    figures = record["figures"]
    if record["score"] == "test":
        protocols = figures.get("test", {})
        means = {short: protocols[name]["mean"] for name, short in _DIRECTIONS.items() if name in protocols}
        if protocols and not means:
            means = {"": next(iter(protocols.values()))["mean"]}
        return {
            f"{short} {title}".strip(): own[metric]
            for short, own in means.items()
            for title, metric in (("Rank-1", "rank1"), ("mAP", "mAP"))
        }
    names = {"score": "score", "i2v_rank1": "I-V Rank-1", "v2i_rank1": "V-I Rank-1"}
    found = figures.get("validation", {})
    return {title: found[name] for name, title in names.items() if name in found}


def grid_rows(
    records: Sequence[Mapping[str, Any]], names: Sequence[str], *, baseline: str | None, alpha: float = 0.05
) -> list[RowStatistics]:
    """Statistics of each row over its seeds, of rows without a record as well.

    Args:
        records: of one grid, at most one a row and seed.
        names: the rows, in order.
        baseline: name of the row that the others are compared with, or None.
        alpha: 1 - confidence of the intervals.
    """
    values = _by_row(records)
    diverged: dict[str, list[int]] = {}
    for record in records:
        if "diverged" in record:
            diverged.setdefault(record["row"], []).append(record["seed"])
    found = []
    for name in names:
        own = values.get(name, {})
        theirs = {} if baseline is None or name == baseline else values.get(baseline, {})
        pairs = {
            title: paired_difference(by_seed, theirs.get(title, {}), alpha=alpha)
            for title, by_seed in own.items()
        }
        found.append(
            RowStatistics(
                name=name,
                seeds=tuple(sorted({seed for by_seed in own.values() for seed in by_seed})),
                diverged=tuple(sorted(diverged.get(name, []))),
                spreads={title: spread(list(by_seed.values())) for title, by_seed in own.items()},
                differences={title: pair for title, pair in pairs.items() if pair is not None},
            )
        )
    return found


def mean_over_rows(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> RowStatistics:
    """Mean and deviation over rows that are repetitions, such as RegDB's splits; of each row the mean over its seeds.

    Args:
        records: of one grid, at most one a row and seed.
        names: all rows of the grid; those without figures are left out, and the name says how many there were.
    """
    values = _by_row(records)
    finished = [values[name] for name in names if name in values]
    by_title: dict[str, list[float]] = {}
    for row in finished:
        for title, by_seed in row.items():
            by_title.setdefault(title, []).append(float(np.mean(list(by_seed.values()))))
    seeds = {seed for row in finished for by_seed in row.values() for seed in by_seed}
    return RowStatistics(
        name=f"mean over {len(finished)} of {len(names)} rows",
        seeds=tuple(sorted(seeds)),
        spreads={title: spread(figures) for title, figures in by_title.items()},
    )


def _by_row(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[int, float]]]:
    """Row -> title -> seed -> figure."""
    values: dict[str, dict[str, dict[int, float]]] = {}
    for record in records:
        for title, figure in headline(record).items():
            values.setdefault(record["row"], {}).setdefault(title, {})[record["seed"]] = figure
    return values
