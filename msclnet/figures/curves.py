"""Curves: of the training, the cumulative matching characteristic (CMC; K ranks), and the reliability diagram."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from msclnet.figures.style import (
    INFRARED,
    NEUTRAL,
    OTHER_IDENTITY,
    RIGHT,
    SMALL_SIZE,
    VISIBLE,
    WRONG,
    new_figure,
    nothing_to_show,
    styled,
)

MOST_ACROSS = 5
DOTS_UP_TO = 15  # measured epochs; a column with more is a line without dots


class _Group(NamedTuple):
    prefix: str  # of the column's name
    colour: str
    unit: str
    logarithmic: bool


# In drawing order; the last group takes every other column.
_GROUPS = {
    "loss": _Group("loss_", VISIBLE, "loss", False),
    "learning rate": _Group("learning_rate", NEUTRAL, "learning rate", True),
    "validation": _Group("val_", INFRARED, "value", False),
    "gradient": _Group("gradient_", OTHER_IDENTITY, "gradient norm", True),
    "other": _Group("", RIGHT, "value", False),
}


def group_of(column: str) -> str:
    """The group of a history column: `loss_triplet` is in group `loss`."""
    return next(name for name, group in _GROUPS.items() if column.startswith(group.prefix))


@styled()
def history_figure(history: Mapping[str, ArrayLike]) -> Figure:
    """One small panel per column of a training history, losses first.

    NaN means that the epoch was not measured; the measured points are joined. Infinite values are left out, and the
    panel gives their number. All gradients share one logarithmic axis, so that their sizes compare.
    """
    columns = {name: np.asarray(values, np.float64) for name, values in history.items()}
    epochs = columns.pop("epoch")
    names = sorted(columns, key=lambda name: list(_GROUPS).index(group_of(name)))
    rows, across = math.ceil(len(names) / MOST_ACROSS), min(len(names), MOST_ACROSS)
    figure = new_figure(
        max(2.4 * across, 6.0),
        1.75 * rows + 1.2,
        title="Training",
        caption="Dots: measured epochs where there are few. Learning rate and gradient norms are on "
        "logarithmic axes, all gradients on the same.",
    )
    panels = figure.subplots(rows, across, squeeze=False, sharex=True).ravel()
    for axes, name in zip(panels, names, strict=False):
        _draw_column(axes, name, epochs, columns[name])
        group = group_of(name)
        if _GROUPS[group].logarithmic:
            _set_decades(axes, np.concatenate([columns[each] for each in names if group_of(each) == group]))
    for index, axes in enumerate(panels):
        axes.set_visible(index < len(names))
        if index < len(names) <= index + across:
            # Shared axes label the last row alone; a panel above an empty place needs its own labels.
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("epoch")
    panels[0].set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    panels[0].xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    return figure


def _set_decades(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic axis over whole decades; a linear one if no value is positive."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not len(positive) or not axes.lines:
        return
    low, high = math.floor(math.log10(positive.min())), math.ceil(math.log10(positive.max()))
    # Limits first: a panel of zeros cannot be scaled by its own data.
    axes.set_ylim(0.7 * 10.0**low, 1.4 * 10.0 ** max(high, low + 1))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=5))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_column(axes: Axes, name: str, epochs: np.ndarray, values: np.ndarray) -> None:
    group = _GROUPS[group_of(name)]
    axes.set_title(name, fontsize=SMALL_SIZE, fontweight="bold", loc="left")
    axes.set_ylabel(group.unit, fontsize=SMALL_SIZE)
    measured, infinite = np.isfinite(values), int(np.isinf(values).sum())
    note = f"infinite in {infinite} of {len(values)} epochs" if infinite else ""
    if not measured.any():
        axes.set_yticks([])
        nothing_to_show(axes, note or "not measured")
        return
    shown = values[measured]
    if group is _GROUPS["gradient"] and not shown.any():
        axes.set_yticks([])
        nothing_to_show(axes, "does not reach\nthe extractors")
        return
    axes.plot(
        epochs[measured],
        shown,
        color=group.colour,
        marker="o" if len(shown) <= DOTS_UP_TO else "",
        markersize=3.5,
        linewidth=1.5,
    )
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    if note:
        corner = {"transform": axes.transAxes, "ha": "right", "va": "top"}
        axes.text(0.97, 0.97, note, color=WRONG, fontsize=SMALL_SIZE, **corner)


_LINES = ((VISIBLE, "-"), (INFRARED, "--"), (RIGHT, "-."), (OTHER_IDENTITY, (0, (5, 1, 1, 1, 1, 1))))


@styled()
def cmc_figure(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    chance: Mapping[str, ArrayLike] | None = None,
    title: str,
    caption: str,
) -> Figure:
    """Share of queries whose identity is among the first k gallery images, for k = 1 ... K.

    `curves`: label -> mean (K,) and standard deviation (K,) over trials, in [0, 1]; the band is one standard
    deviation to both sides. `chance`: label -> mean (K,) of references that learn nothing, drawn thin and grey.
    """
    figure = new_figure(7.5, 5.2, title=title, caption=caption)
    axes = figure.subplots()
    longest = 1
    for (label, (mean, std)), (colour, line) in zip(curves.items(), cycle(_LINES), strict=False):
        mean_K, std_K = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        ranks, longest = np.arange(1, len(mean_K) + 1), max(longest, len(mean_K))
        axes.fill_between(
            ranks, 100 * (mean_K - std_K), 100 * (mean_K + std_K), color=colour, alpha=0.18, lw=0
        )
        text = f"{label}: Rank-1 {100 * mean_K[0]:.1f} ± {100 * std_K[0]:.1f} %"
        axes.plot(ranks, 100 * mean_K, color=colour, linestyle=line, marker="o", markersize=3, label=text)
    for index, (label, mean) in enumerate((chance or {}).items()):
        mean_K = np.asarray(mean, np.float64)
        longest = max(longest, len(mean_K))
        axes.plot(
            np.arange(1, len(mean_K) + 1),
            100 * mean_K,
            color=NEUTRAL,
            linestyle=(":", "--", "-.")[index % 3],
            linewidth=1.3,
            label=f"{label}: Rank-1 {100 * mean_K[0]:.1f} %",
        )
    axes.set(xlabel="rank k", ylabel="queries matched within rank k (%)", ylim=(0, 101))
    axes.set_xlim(0.5, longest + 0.5)
    axes.set_xticks([rank for rank in (1, 5, 10, 15, 20) if rank <= longest] if longest <= 20 else [])
    if longest > 20:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    return figure


@styled()
def reliability_figure(
    kinds: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]], *, caption: str
) -> Figure:
    """Share of same-person pairs among those of one predicted probability; the diagonal is perfect calibration.

    `kinds`: title of a panel -> label of a line -> (pairs, mean prediction, observed share) of each bin, shares in
    [0, 1]. A marker's area grows with the logarithm of the pairs. No panel: a note instead.
    """
    figure = new_figure(
        max(3.2 * len(kinds), 6.4), 4.6, title="Calibration of the probabilities", caption=caption
    )
    if not kinds:
        nothing_to_show(figure.subplots(), "no validation identities to fit on")
    panels = figure.subplots(1, len(kinds), squeeze=False)[0] if kinds else ()
    for axes, (title, lines) in zip(panels, kinds.items(), strict=True):
        axes.plot((0, 100), (0, 100), color=NEUTRAL, linestyle=":", linewidth=1.3, label="perfect")
        for (label, bins), (colour, line) in zip(lines.items(), _LINES, strict=False):
            pairs_B, predicted_B, observed_B = np.array(bins, np.float64).reshape(-1, 3).T
            axes.plot(100 * predicted_B, 100 * observed_B, color=colour, linestyle=line, label=label)
            axes.scatter(100 * predicted_B, 100 * observed_B, s=8 * np.log10(1 + pairs_B), color=colour)
        axes.set(xlabel="predicted probability (%)", ylabel="same person (%)", xlim=(-3, 103), ylim=(-3, 103))
        axes.set_title(title, fontsize=SMALL_SIZE, fontweight="bold", loc="left")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17))
    return figure
