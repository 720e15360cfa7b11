"""Training curves, and the cumulative matching characteristic.

The cumulative matching characteristic: how far down the ranking the right identity first appears.

Legend: K ranks.
"""

import math
import re
from collections.abc import Mapping
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
DOTS_UP_TO = 15  # more measured epochs than this are drawn as a line alone


class _Group(NamedTuple):
    pattern: str  # what the first part of a column's name looks like
    colour: str
    unit: str
    logarithmic: bool


# In drawing order; the last one takes what is left.
_GROUPS = {
    "loss": _Group(r"(train[/._ ])?loss(es)?", VISIBLE, "loss", False),
    "learning rate": _Group(r"lr|learning[/._ ]?rate", NEUTRAL, "learning rate", True),
    "validation": _Group(r"val(idation)?", INFRARED, "value", False),
    "gradient": _Group(r"grad(ient)?s?", OTHER_IDENTITY, "gradient norm", True),
    "other": _Group(r".*", RIGHT, "value", False),
}


def group_of(column: str) -> str:
    """The group of a history column, by the first part of its name: `loss/triplet` is of group `loss`."""
    return next(
        name
        for name, group in _GROUPS.items()
        if re.match(rf"({group.pattern})([/._ ]|$)", column, re.IGNORECASE)
    )


@styled()
def history_figure(
    history: Mapping[str, ArrayLike], *, units: Mapping[str, str] | None = None, title: str = "Training"
) -> Figure:
    """One small panel per column of a training history, losses first.

    The first part of a column's name tells its group: `loss`, `lr` or `learning_rate`, `val`, `gradient` or
    `grad`; all else is drawn last. A column may be sparse: NaN means that nothing was measured in that epoch,
    and the measured points are joined. Infinite values are left out and counted in the panel. Learning rate
    and gradients have logarithmic axes in whole decades; all gradients share one, so their sizes compare.

    Args:
        history: Column name to one value per epoch. A column `epoch` gives the horizontal axis; without it
            the epochs count from 1.
        units: Column name to label of the value axis, where the group's own (`loss`, `value`) says too
            little.
        title: The figure's title.

    Raises:
        ValueError: If the history has no epoch, no column but `epoch`, or columns of different length.
    """
    columns = {name: np.asarray(values, np.float64) for name, values in history.items()}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise ValueError(f"a history has one value per epoch in each column, not lengths {sorted(lengths)}")
    if not lengths or lengths == {0} or set(columns) == {"epoch"}:
        raise ValueError("the history is empty: no epoch or no column to draw")
    epochs = columns.pop("epoch", np.arange(1.0, lengths.pop() + 1))

    names = sorted(columns, key=lambda name: list(_GROUPS).index(group_of(name)))
    rows, across = math.ceil(len(names) / MOST_ACROSS), min(len(names), MOST_ACROSS)
    figure = new_figure(
        max(2.4 * across, 6.0),
        1.75 * rows + 1.2,
        title=title,
        caption="Dots: measured epochs where there are few. Learning rate and gradient norms are on "
        "logarithmic axes, all gradients on the same.",
    )
    panels = figure.subplots(rows, across, squeeze=False, sharex=True).ravel()
    for axes, name in zip(panels, names, strict=False):
        _draw_column(axes, name, epochs, columns[name], unit=(units or {}).get(name))
        group = group_of(name)
        if _GROUPS[group].logarithmic:
            _set_decades(axes, np.concatenate([columns[each] for each in names if group_of(each) == group]))
    for index, axes in enumerate(panels):
        axes.set_visible(index < len(names))
        if index < len(names) <= index + across:
            # Shared axes number the last row alone; panels above an empty place would stay without numbers.
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("epoch")
    panels[0].set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    panels[0].xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    return figure


def _set_decades(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic axis over the whole decades that hold the values; none if there is nothing positive."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not len(positive) or not axes.lines:
        return
    low, high = math.floor(math.log10(positive.min())), math.ceil(math.log10(positive.max()))
    # The limits first: a panel of zeros alone could not be scaled by its own data.
    axes.set_ylim(0.7 * 10.0**low, 1.4 * 10.0 ** max(high, low + 1))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=5))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_column(axes: Axes, name: str, epochs: np.ndarray, values: np.ndarray, *, unit: str | None) -> None:
    group = _GROUPS[group_of(name)]
    axes.set_title(name, fontsize=SMALL_SIZE, fontweight="bold", loc="left")
    axes.set_ylabel(unit or group.unit, fontsize=SMALL_SIZE)
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
    title: str = "Cumulative matching characteristic",
    caption: str = "",
) -> Figure:
    """Share of queries whose identity is among the first k gallery images, for k = 1 ... K.

    Args:
        curves: Label to mean (K,) and standard deviation (K,) over trials or seeds, shares in [0, 1]; the
            band is one deviation to both sides. At most four curves, so that line styles tell them apart.
        chance: Label to mean (K,) of what needs no learning, drawn thin and grey.
        title: The figure's title.
        caption: Protocol and what the band is taken over.

    Raises:
        ValueError: If there is no curve, more than four, a mean and its deviation differ in length, or a mean
            is no share.
    """
    chance = chance or {}
    if not 1 <= len(curves) <= len(_LINES):
        raise ValueError(f"a CMC figure holds 1 to {len(_LINES)} curves, not {len(curves)}")
    figure = new_figure(7.5, 5.2, title=title, caption=caption)
    axes = figure.subplots()
    longest = 1
    for (label, (mean, std)), (colour, line) in zip(curves.items(), _LINES, strict=False):
        mean_K, std_K = _shares(label, mean), np.asarray(std, np.float64)
        if mean_K.shape != std_K.shape:
            raise ValueError(f"{label}: mean {mean_K.shape} and deviation {std_K.shape} differ in shape")
        ranks, longest = np.arange(1, len(mean_K) + 1), max(longest, len(mean_K))
        axes.fill_between(
            ranks, 100 * (mean_K - std_K), 100 * (mean_K + std_K), color=colour, alpha=0.18, lw=0
        )
        text = f"{label}: Rank-1 {100 * mean_K[0]:.1f} ± {100 * std_K[0]:.1f} %"
        axes.plot(ranks, 100 * mean_K, color=colour, linestyle=line, marker="o", markersize=3, label=text)
    for index, (label, mean) in enumerate(chance.items()):
        mean_K = _shares(label, mean)
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


def _shares(label: str, mean: ArrayLike) -> np.ndarray:
    mean_K = np.asarray(mean, np.float64)
    if mean_K.ndim != 1 or not len(mean_K) or not ((mean_K >= 0) & (mean_K <= 1)).all():
        raise ValueError(f"{label}: a CMC curve is a list of at least one share in [0, 1]")
    return mean_K
