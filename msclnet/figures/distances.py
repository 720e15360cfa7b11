"""Distances between the modalities, within and between identities (paper, Fig. 5 c, d).

N images, D feature channels, V visible and R infrared images. The distance is defined in DEFINITION. How the paper
measured its distances is unclear: its mean inter distance of 1.54 lies above sqrt 2, the distance of unrelated
directions. Do not compare its numbers with these.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from msclnet.figures.style import OTHER_IDENTITY, SAME_IDENTITY, new_figure, styled

DEFINITION = (
    "Euclidean distance of L2-normalised features over all visible-infrared pairs; intra: same identity, "
    "inter: different identities. Gap: mean inter minus mean intra. Std: standard deviation over the pairs. "
    "This is our definition; the paper's is unclear, so do not compare its printed figures."
)
FARTHEST = 2.0


@dataclass(frozen=True)
class DistanceStatistics:
    """Cross-modality distances of one model. Means and deviations of a group without pairs are NaN."""

    mean_intra: float  # of same-identity pairs
    mean_inter: float  # of different-identity pairs
    gap: float  # mean_inter - mean_intra; larger is better
    std_intra: float  # divided by the number of pairs
    std_inter: float
    pairs_intra: int
    pairs_inter: int
    bin_edges: np.ndarray  # (bins + 1,) from 0 to 2; the last bin includes 2
    histogram_intra: np.ndarray  # pairs per bin, int64 (bins,)
    histogram_inter: np.ndarray  # pairs per bin, int64 (bins,)


class _Group:
    """Running count, mean, squared deviation and histogram of distances; they arrive in blocks."""

    def __init__(self, bins: int) -> None:
        self.histogram = np.zeros(bins, np.int64)
        self.count, self.mean, self.squares = 0, float("nan"), 0.0

    def add(self, distances: np.ndarray) -> None:
        if not distances.size:
            return
        self.histogram += np.histogram(distances, len(self.histogram), range=(0, FARTHEST))[0]
        mean, squares = float(distances.mean()), float(((distances - distances.mean()) ** 2).sum())
        if not self.count:
            self.count, self.mean, self.squares = distances.size, mean, squares
            return
        # Pairwise update of mean and squared deviation: a plain sum of squares loses a small spread to rounding.
        total, step = self.count + distances.size, mean - self.mean
        self.squares += squares + step**2 * self.count * distances.size / total
        self.mean += step * distances.size / total
        self.count = total

    @property
    def std(self) -> float:
        return float(np.sqrt(self.squares / self.count)) if self.count else float("nan")


def l2_normalise(features_ND: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, in float64; a row of zeros stays zero."""
    features_ND = np.asarray(features_ND, np.float64)
    lengths_N1 = np.linalg.norm(features_ND, axis=1, keepdims=True)
    return features_ND / np.where(lengths_N1 > 0, lengths_N1, 1.0)


def distance_statistics(
    features_ND: np.ndarray,
    identities_N: np.ndarray,
    infrared_N: np.ndarray,
    *,
    bins: int = 100,
    block: int = 1024,
) -> DistanceStatistics:
    """Means, gap, spread and histograms of the cross-modality distances (see DEFINITION).

    The pairs are visited `block` visible by `block` infrared images, so that memory does not grow with their number.
    """
    features_ND = l2_normalise(features_ND)
    intra, inter = _Group(bins), _Group(bins)
    visible_VD, infrared_RD = features_ND[~infrared_N], features_ND[infrared_N]
    identities_V, identities_R = identities_N[~infrared_N], identities_N[infrared_N]
    for v in range(0, len(visible_VD), block):
        for r in range(0, len(infrared_RD), block):
            distances_VR = _euclidean(visible_VD[v : v + block], infrared_RD[r : r + block])
            same_VR = identities_V[v : v + block, None] == identities_R[None, r : r + block]
            intra.add(distances_VR[same_VR])
            inter.add(distances_VR[~same_VR])
    return DistanceStatistics(
        mean_intra=intra.mean,
        mean_inter=inter.mean,
        gap=inter.mean - intra.mean,
        std_intra=intra.std,
        std_inter=inter.std,
        pairs_intra=intra.count,
        pairs_inter=inter.count,
        bin_edges=np.linspace(0, FARTHEST, bins + 1),
        histogram_intra=intra.histogram,
        histogram_inter=inter.histogram,
    )


def _euclidean(visible_VD: np.ndarray, infrared_RD: np.ndarray) -> np.ndarray:
    squares_V1 = (visible_VD**2).sum(1)[:, None]
    squares_1R = (infrared_RD**2).sum(1)[None]
    squared_VR = squares_V1 + squares_1R - 2 * visible_VD @ infrared_RD.T
    # Rounding moves coinciding or opposite features slightly out of the range.
    return np.sqrt(np.clip(squared_VR, 0, FARTHEST**2))


HEADROOM = 1.35  # height of the panel divided by the height of its curves: room for the text


@styled()
def distance_figure(models: Mapping[str, DistanceStatistics], *, data: str = "") -> Figure:
    """The two distributions of each model, one panel per model on common axes."""
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
    looks = {"intra": (SAME_IDENTITY, "-", "//"), "inter": (OTHER_IDENTITY, "--", "")}
    for label, (colour, line, hatch) in looks.items():
        histogram, mean, std = (
            getattr(statistics, f"{name}_{label}") for name in ("histogram", "mean", "std")
        )
        look = {"edgecolor": colour, "facecolor": to_rgba(colour, 0.22), "linestyle": line, "hatch": hatch}
        filled = np.flatnonzero(histogram)
        if not len(filled):
            axes.add_patch(Rectangle((0, 0), 0, 0, label=f"{label}: no pairs", **look))
            continue
        # From the first to the last filled bin alone: elsewhere the outline would lie on the axis.
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
