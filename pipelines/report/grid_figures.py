"""Pictures from the records: Rank-1 by seed, trainings that diverged, learning curves."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from msclnet.figures.style import (
    INFRARED,
    NEUTRAL,
    SMALL_SIZE,
    VISIBLE,
    new_figure,
    nothing_to_show,
    styled,
)
from pipelines.experiments.grid import Row
from pipelines.report.results import NOT_RUN, PLAIN, GridView, Record

CHANCE = {"random ranker": ":", "colour histogram": "--"}
LABELS = {"whole": "MSCLNet, the synergy reading", "B": "Baseline (AGW, random erasing)"}
MOST_ACROSS = 3
FAR = 10  # times the norm of the baseline's feature, or a part of it
UNBOUNDED = -1.0  # the lowest of the bounded terms is minus Jensen-Shannon, at least - ln 2
RUNAWAY = 50  # times the smallest value
MOST_ROWS = 8
MOST_CURVES_ACROSS = 4
# The rows that are shown first of a grid with many rows.
_FIRST = ("B", "MS", "CA", "MC", "MS-CA", "MS-MC", "whole", "default")

Values = npt.NDArray[np.float64]


def scored(record: Record) -> bool:
    """Whether a record has figures of the test identities: a grid may be judged on validation, a cell may diverge."""
    return bool(record.get("figures", {}).get("test"))


def headline(record: Record) -> dict[str, Any]:
    """The test figures by the first protocol, which is the headline."""
    return next(iter(record["figures"]["test"].values()))


def is_tested(view: GridView) -> bool:
    """Whether any record of the grid has figures of the test identities."""
    return any(scored(record) for record in view.records)


@styled()
def rank1(view: GridView) -> Figure:
    """Rank-1 of both rows of the grid `baseline`: one bar up to the mean over the seeds, one dot per seed."""
    figure = new_figure(
        8.0,
        3.4,
        title="Rank-1 on the synthetic data set",
        caption="Bar: mean over seeds. Dot: one seed. Infrared queries, visible gallery, "
        f"{view.rows[0].params['download.synthetic.identities.test']} test identities, all-search, single-shot, "
        f"seeds {min(record['seed'] for record in view.records)} to {max(r['seed'] for r in view.records)}.",
    )
    axes = figure.subplots()
    first = [headline(record) for record in view.records if scored(record)]
    best = 1.0
    for place, row in enumerate(LABELS):
        values = np.array([headline(each)["mean"]["rank1"] for each in view.of(row) if scored(each)])
        if not len(values):
            axes.text(0.5, place, NOT_RUN, va="center", color=NEUTRAL, fontsize=SMALL_SIZE)
            continue
        best = max(best, values.max())
        axes.barh(place, values.mean(), height=0.62, color=VISIBLE, alpha=0.45)
        axes.scatter(values, np.full(len(values), place), s=26, color=VISIBLE, edgecolors="white", zorder=3)
        axes.annotate(
            f"{values.mean():.1f} %",
            (values.max(), place),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold",
        )
    for (label, line), name in zip(CHANCE.items(), ("random", "colour_histogram"), strict=True):
        chance = [protocol[name]["rank1"] for protocol in first if name in protocol]
        if chance:
            text = f"{label} {np.mean(chance):.1f} %"
            axes.axvline(float(np.mean(chance)), color=NEUTRAL, linestyle=line, linewidth=1.4, label=text)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    axes.set(xlim=(0, best * 1.18), xlabel="Rank-1 (% of queries)", ylim=(len(LABELS) - 0.4, -0.6))
    axes.set_yticks(range(len(LABELS)), list(LABELS.values()))
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return figure


def diverged(views: Sequence[GridView]) -> tuple[pd.DataFrame, Figure] | None:
    """A table and the curves of all trainings that diverged; None where none did."""
    by_row: dict[tuple[str, str], list[tuple[Record, str]]] = {}
    for view in views:
        for record in view.records:
            if why := why_diverged(record, view.of(view.grid.baseline)):
                by_row.setdefault((record["grid"], record["row"]), []).append((record, why))
    if not by_row:
        return None
    rows = [
        {
            "Row": f"{grid}, {row}",
            "seeds": ", ".join(str(record["seed"]) for record, _ in own),
            "The first of these trainings": own[0][1],
        }
        for (grid, row), own in by_row.items()
    ]
    frame = pd.DataFrame(rows, index=[PLAIN] * len(rows))
    return frame, curves_of_divergence([own[0][0] for own in by_row.values()])


def why_diverged(record: Record, baseline: Sequence[Record]) -> str:
    """How a training left the range of a healthy one; empty where it did not."""
    if "diverged" in record:
        return record["diverged"].partition(". ")[0]
    ends = {name: values[-1] for name, values in record["history"].items() if values}
    last = {name: value for name, value in ends.items() if value is not None}
    terms = {name: value for name, value in last.items() if name.startswith("loss_")}
    found = [f"{name} = {value:.3g}" for name, value in terms.items() if value < UNBOUNDED]
    norm = last.get("feature_norm")
    healthy = (each["history"].get("feature_norm") for each in baseline if "diverged" not in each)
    usual = [norms[-1] for norms in healthy if norms and norms[-1] is not None]
    if norm is not None and usual and not 1 / FAR <= norm / np.mean(usual) <= FAR:
        found.append(f"mean feature norm = {norm:.3g}, of the baseline {np.mean(usual):.3g}")
    return f"reached its end with {', '.join(found)}" if found else ""


@styled()
def curves_of_divergence(records: list[Record]) -> Figure:
    """Total loss and feature norm of each diverged training: its whole epochs, then its last steps one by one."""
    across = min(MOST_ACROSS, len(records))
    down = -(-len(records) // across)
    figure = new_figure(max(3.6 * across, 6.0), 2.6 * down + 0.9, title="Trainings that diverged")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, record in zip(panels, records, strict=False):
        axes.set_title(f"{record['row']}, seed {record['seed']}", fontsize=SMALL_SIZE, loc="left")
        epochs, steps = record["history"], record.get("last_steps", {})
        if not epochs.get("epoch") and not steps.get("step"):
            nothing_to_show(axes, "ended in its first epoch")
            axes.set(xticks=[], yticks=[])
            continue
        length = record["params"].get("train.steps_per_epoch") or 0
        if steps.get("step") and not length:  # it followed from the data, and the record does not say it
            epochs = {}
        twin = axes.twinx()
        for target, name, colour in ((axes, "total", VISIBLE), (twin, "feature_norm", INFRARED)):
            whole = _column(epochs, name, axis="epoch")
            last = _column(steps, name, axis="step")
            target.plot(*whole, color=colour, marker="o", markersize=3, linestyle="none" if steps else "-")
            target.plot(last[0] / (length or 1), last[1], color=colour, linewidth=1)
            target.set_ylabel(name.replace("_", " "), color=colour, fontsize=SMALL_SIZE)
            target.set_yscale(_scale(np.concatenate([whole[1], last[1]])))
        twin.grid(False)
        axes.set_xlabel("epoch" if epochs or length else "step", fontsize=SMALL_SIZE, color=NEUTRAL)
    for axes in panels[len(records) :]:
        axes.set_visible(False)
    return figure


def _column(history: dict[str, list[float | None]], name: str, *, axis: str) -> tuple[Values, Values]:
    places = history.get(axis, [])
    values = [np.nan if v is None else v for v in history.get(name, [None] * len(places))]
    return np.asarray(places, float), np.asarray(values, float)


def _scale(values: Values) -> str:
    """Logarithmic where a runaway would flatten the values before it."""
    finite = values[np.isfinite(values)]
    if not len(finite) or np.abs(finite).max() < RUNAWAY * max(np.abs(finite).min(), 1e-6):
        return "linear"
    return "log" if finite.min() > 0 else "symlog"


def shown_rows(view: GridView) -> list[Row]:
    """The rows of the learning curves: those with a history, at most eight."""
    rows = [row.row for row in view.rows if any(r["history"] for r in view.of(row.row.name))]
    return sorted(rows, key=lambda row: row.name not in _FIRST)[:MOST_ROWS] if len(rows) > MOST_ROWS else rows


@styled()
def curves(view: GridView) -> Figure:
    """One panel a term, one line a row: the mean over its seeds."""
    rows = shown_rows(view)
    means = {row.name: mean_history(view.of(row.name)) for row in rows}
    columns = list(dict.fromkeys(name for history in means.values() for name in history))
    terms = ["total", *(name for name in columns if name.startswith("loss_")), "val_score"]
    terms = [name for name in terms if name in columns]
    across = min(MOST_CURVES_ACROSS, len(terms))
    down = math.ceil(len(terms) / across)
    figure = new_figure(
        2.8 * across, 2.1 * down + 1.2, title=f"{view.grid.title}: loss terms and validation score"
    )
    panels = figure.subplots(down, across, squeeze=False).ravel()
    # Without its grey, which is B's here.
    colours = [matplotlib.colormaps["tab10"](place) for place in (0, 1, 2, 3, 4, 5, 6, 8, 9)]
    for axes, term in zip(panels, terms, strict=False):
        axes.set_title(term, fontsize=SMALL_SIZE, fontweight="bold", loc="left")
        for (name, history), colour in zip(means.items(), colours, strict=False):
            if term not in history:
                continue
            values = history[term]
            known = np.isfinite(values)
            colour = NEUTRAL if name == "B" else colour
            axes.plot(history["epoch"][known], values[known], color=colour, label=name, linewidth=1.4)
        axes.set_xlabel("epoch", fontsize=SMALL_SIZE)
    for axes in panels[len(terms) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def mean_history(records: Sequence[Record]) -> pd.DataFrame:
    """Mean over the records epoch by epoch, as far as the shortest goes; NaN where none has a figure."""
    histories = [record["history"] for record in records if record["history"] and "diverged" not in record]
    frames = [pd.DataFrame(history, dtype=float) for history in histories]
    if not frames:
        return pd.DataFrame()
    means = pd.DataFrame(pd.concat(frames).groupby(level=0).mean())
    return means.head(min(map(len, frames)))
