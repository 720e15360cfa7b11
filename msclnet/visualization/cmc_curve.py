"""The cumulative matching characteristic: how far down the ranking the right identity first appears.

Legend: K ranks.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from msclnet.visualization.style import INFRARED, NEUTRAL, OTHER_IDENTITY, RIGHT, VISIBLE, new_figure, styled

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
