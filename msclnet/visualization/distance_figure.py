"""The picture of the cross-modality distances, one panel per model (paper, Fig. 5 c, d)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from msclnet.visualization.distances import DEFINITION, FARTHEST, DistanceStatistics
from msclnet.visualization.style import OTHER_IDENTITY, SAME_IDENTITY, new_figure, styled

HEADROOM = 1.35  # height of the panel over that of its curves: the room for its text


@styled()
def distance_figure(models: Mapping[str, DistanceStatistics], *, data: str = "") -> Figure:
    """The two distributions of each model, one panel a model on common axes.

    Args:
        models: Statistics by the model's name, in drawing order.
        data: What the distances are of, such as data set and feature; shown before the definition.

    Raises:
        ValueError: If no model is given.
    """
    if not models:
        raise ValueError("a distance figure needs at least one model")
    figure = new_figure(
        max(7.5, 5.2 * len(models)),
        4.8 if len(models) == 1 else 5.0,
        title="Cross-modality distances within and between identities",
        caption=f"{data}. {DEFINITION}" if data else DEFINITION,
    )
    panels = figure.subplots(1, len(models), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (name, statistics) in zip(panels, models.items(), strict=True):
        _draw(axes, name, statistics)
    used = [
        edge
        for each in models.values()
        for edge in each.bin_edges[:-1][each.histogram_intra + each.histogram_inter > 0]
    ]
    width = max(each.bin_edges[1] for each in models.values())
    panels[0].set_xlim(max(0.0, min(used) - 0.1), min(FARTHEST, max(used) + width + 0.1))
    panels[0].set_ylabel("density (1 / unit of distance)")
    panels[0].set_ylim(0, panels[0].get_ylim()[1] * HEADROOM)
    return figure


def _draw(axes: Axes, name: str, statistics: DistanceStatistics) -> None:
    groups = (
        (
            "intra",
            SAME_IDENTITY,
            "-",
            "//",
            statistics.histogram_intra,
            statistics.mean_intra,
            statistics.std_intra,
        ),
        (
            "inter",
            OTHER_IDENTITY,
            "--",
            "",
            statistics.histogram_inter,
            statistics.mean_inter,
            statistics.std_inter,
        ),
    )
    for label, colour, line, hatch, histogram, mean, std in groups:
        look = {"edgecolor": colour, "facecolor": to_rgba(colour, 0.22), "linestyle": line, "hatch": hatch}
        filled = np.flatnonzero(histogram)
        if not len(filled):
            axes.add_patch(Rectangle((0, 0), 0, 0, label=f"{label}: no pairs", **look))
            continue
        # Only from the first to the last filled bin: elsewhere the outline would lie on the axis.
        used = slice(filled[0], filled[-1] + 1)
        edges = statistics.bin_edges[filled[0] : filled[-1] + 2]
        pairs = int(histogram.sum())
        text = f"{label}: mean {mean:.3f}, std {std:.3f}, {pairs:,} pairs"
        density = histogram[used] / (pairs * np.diff(edges))
        axes.stairs(density, edges, fill=True, linewidth=1.4, label=text, **look)
        axes.axvline(mean, color=colour, linestyle=line, linewidth=1.4, ymax=1 / HEADROOM)
    gap = f"gap {statistics.gap:.3f}" if np.isfinite(statistics.gap) else "gap undefined"
    axes.set_title(f"{name}: {gap}")
    axes.set_xlabel("distance (no unit, 0 to 2)")
    axes.legend(loc="upper left", borderaxespad=0.2)
