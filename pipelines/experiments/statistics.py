"""Statistics over seeds and rows: mean, deviation, and the paired difference from the baseline with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from msclnet.retrieval.protocols import INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED

DIRECTIONS = {VISIBLE_TO_INFRARED: "V-I", INFRARED_TO_VISIBLE: "I-V"}
"""Direction -> its short name. V-I: visible queries, infrared gallery."""
_VALIDATION = {"score": "score", "i2v_rank1": "I-V Rank-1", "v2i_rank1": "V-I Rank-1"}


class Spread(NamedTuple):
    """Mean and sample standard deviation (n - 1) of n values; a single value has no deviation."""

    mean: float
    std: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.std is None else f"{self.mean:.2f} ± {self.std:.2f}"


class Difference(NamedTuple):
    """Mean of the differences from the baseline, seed by seed, and the ends of its confidence interval.

    A single seed has no interval: both ends are None. `seeds` are those that both have.
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
    """Row minus baseline (seed -> figure) over the seeds that both have, with the paired t-test's 1 - alpha interval.

    It assumes that seeds are independent draws and that the differences are normal. None without a common seed.
    """
    seeds = tuple(sorted(row.keys() & baseline.keys()))
    if not seeds:
        return None
    mean, std, n = spread([row[seed] - baseline[seed] for seed in seeds])
    if std is None:
        return Difference(mean, None, None, seeds)
    from scipy.stats import t

    reach = float(t.ppf(1 - alpha / 2, df=n - 1) * std / np.sqrt(n))
    return Difference(mean, mean - reach, mean + reach, seeds)


@dataclass(frozen=True)
class RowStatistics:
    """A row of a grid over its seeds; figures by title."""

    name: str
    seeds: tuple[int, ...] = ()  # with figures
    diverged: tuple[int, ...] = ()  # seeds whose training diverged
    spreads: dict[str, Spread] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)  # from the baseline, which has none

    def texts(self) -> dict[str, str]:
        """Column -> cell of a table."""
        figures = {title: str(value) for title, value in self.spreads.items()}
        return figures | {f"{title} - baseline": str(value) for title, value in self.differences.items()}


def headline(record: Mapping[str, Any]) -> dict[str, float]:
    """The few figures of a record that tables show, in percent; empty after a divergence.

    Under score `test` Rank-1 and mAP of the first protocol, or of both directions where these are the protocols.
    """
    if record["score"] == "validation":
        found = record["figures"].get("validation", {})
        return {title: found[name] for name, title in _VALIDATION.items() if name in found}
    protocols = record["figures"].get("test", {})
    means = {short: protocols[name]["mean"] for name, short in DIRECTIONS.items() if name in protocols}
    if protocols and not means:
        means = {"": next(iter(protocols.values()))["mean"]}
    return {
        f"{short} {title}".strip(): own[metric]
        for short, own in means.items()
        for title, metric in (("Rank-1", "rank1"), ("mAP", "mAP"))
    }


def grid_rows(
    records: Sequence[Mapping[str, Any]], names: Sequence[str], *, baseline: str | None, alpha: float = 0.05
) -> list[RowStatistics]:
    """Statistics of each row over its seeds, of rows without a record as well; at most one record a row and seed."""
    values = _by_row(records)
    found = []
    for name in names:
        own = values.get(name, {})
        theirs = {} if baseline is None or name == baseline else values.get(baseline, {})
        pairs = {title: paired_difference(own[title], theirs.get(title, {}), alpha=alpha) for title in own}
        diverged = sorted(r["seed"] for r in records if r["row"] == name and "diverged" in r)
        found.append(
            RowStatistics(
                name=name,
                seeds=_seeds([own]),
                diverged=tuple(diverged),
                spreads={title: spread(list(by_seed.values())) for title, by_seed in own.items()},
                differences={title: pair for title, pair in pairs.items() if pair is not None},
            )
        )
    return found


def mean_over_rows(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> RowStatistics:
    """Mean and deviation over rows that are repetitions, such as RegDB's splits; of each row the mean over its seeds.

    Rows without figures are left out, and the name says how many there were.
    """
    values = _by_row(records)
    finished = [values[name] for name in names if name in values]
    by_title: dict[str, list[float]] = {}
    for row in finished:
        for title, by_seed in row.items():
            by_title.setdefault(title, []).append(float(np.mean(list(by_seed.values()))))
    return RowStatistics(
        name=f"mean over {len(finished)} of {len(names)} rows",
        seeds=_seeds(finished),
        spreads={title: spread(figures) for title, figures in by_title.items()},
    )


Figures = dict[str, dict[int, float]]  # title -> seed -> figure


def _by_row(records: Sequence[Mapping[str, Any]]) -> dict[str, Figures]:
    values: dict[str, Figures] = {}
    for record in records:
        for title, figure in headline(record).items():
            values.setdefault(record["row"], {}).setdefault(title, {})[record["seed"]] = figure
    return values


def _seeds(rows: Sequence[Figures]) -> tuple[int, ...]:
    return tuple(sorted({seed for row in rows for by_seed in row.values() for seed in by_seed}))
