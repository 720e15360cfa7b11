"""The picture of the results: Rank-1 of each variant, every seed shown."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from msclnet.figures.style import NEUTRAL, SMALL_SIZE, VISIBLE, new_figure, styled


@styled()
def rank1_figure(
    rows: Mapping[str, ArrayLike],
    *,
    chance: Mapping[str, float] | None = None,
    title: str = "Rank-1 by variant",
    caption: str = "",
) -> Figure:
    """One bar per variant up to the mean over its seeds, one dot per seed.

    Args:
        rows: Variant to Rank-1 of each seed, shares in [0, 1]; drawn from top to bottom. A variant without a
            value keeps its row and says so.
        chance: Label to Rank-1 of what needs no learning (random ranker, colour histogram), as vertical
            lines.
        title: The figure's title.
        caption: Data, protocol and direction.

    Raises:
        ValueError: If there is no row, or a value is no share.
    """
    chance = chance or {}
    values = {name: np.asarray(seeds, np.float64) for name, seeds in rows.items()}
    if not values:
        raise ValueError("a Rank-1 figure needs at least one variant")
    for name, each in [*values.items(), *((name, np.asarray([share])) for name, share in chance.items())]:
        if not ((each >= 0) & (each <= 1)).all():
            raise ValueError(f"{name}: Rank-1 is a share in [0, 1], not {each.tolist()}")

    figure = new_figure(
        8.0,
        0.5 * len(values) + 1.9 + 0.25 * len(chance),
        title=title,
        caption=f"Bar: mean over seeds. Dot: one seed. {caption}".strip(),
    )
    axes = figure.subplots()
    for place, seeds in enumerate(values.values()):
        if not len(seeds):
            axes.text(0.5, place, "no result", va="center", color=NEUTRAL, fontsize=SMALL_SIZE)
            continue
        mean = 100 * seeds.mean()
        axes.barh(place, mean, height=0.62, color=VISIBLE, alpha=0.45)
        axes.scatter(
            100 * seeds, np.full(len(seeds), place), s=26, color=VISIBLE, edgecolors="white", zorder=3
        )
        right = max(mean, 100 * seeds.max())
        axes.annotate(
            f"{mean:.1f} %",
            (right, place),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold",
        )
    for index, (label, share) in enumerate(chance.items()):
        text = f"{label} {100 * share:.1f} %"
        axes.axvline(
            100 * share, color=NEUTRAL, linestyle=(":", "--", "-.")[index % 3], linewidth=1.4, label=text
        )
    best = max([*(seeds.max() for seeds in values.values() if len(seeds)), *chance.values(), 0.01])
    axes.set(xlim=(0, 100 * best * 1.18), xlabel="Rank-1 (% of queries)")
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    if chance:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    return figure
