"""Distances between the modalities, within and between identities (paper, Fig. 5 c, d).

Legend: N images, D feature channels, V visible and R infrared images.

Definition used here: the Euclidean distance of L2-normalised features, in [0, 2], over all visible-infrared
pairs; *intra* pairs show the same identity, *inter* pairs different ones. The gap is mean inter minus mean
intra, the spread the standard deviation over the pairs. How the paper's figures were taken is unclear;
its mean inter distance of 1.54 lies above sqrt 2, the distance of unrelated directions, so its numbers are
not to be compared with these.
"""

from dataclasses import dataclass

import numpy as np

DEFINITION = (
    "Euclidean distance of L2-normalised features over all visible-infrared pairs; intra: same identity, "
    "inter: different identities. Gap: mean inter minus mean intra. Std: standard deviation over the pairs. "
    "This is our definition; the paper's is unclear, so do not compare its printed figures."
)
FARTHEST = 2.0


@dataclass(frozen=True)
class DistanceStatistics:
    """Cross-modality distances of one model. Means and deviations of a group without pairs are NaN.

    Attributes:
        mean_intra: Mean distance of same-identity pairs.
        mean_inter: Mean distance of different-identity pairs.
        gap: mean_inter - mean_intra; larger is better.
        std_intra: Standard deviation of the same-identity distances (divided by their number).
        std_inter: The same for different identities.
        pairs_intra: Number of same-identity pairs.
        pairs_inter: Number of different-identity pairs.
        bin_edges: Histogram edges (bins + 1,) from 0 to 2; the last bin includes 2.
        histogram_intra: Pairs per bin, int64 (bins,).
        histogram_inter: Pairs per bin, int64 (bins,).
    """

    mean_intra: float
    mean_inter: float
    gap: float
    std_intra: float
    std_inter: float
    pairs_intra: int
    pairs_inter: int
    bin_edges: np.ndarray
    histogram_intra: np.ndarray
    histogram_inter: np.ndarray


class _Group:
    """Running count, mean, squared deviation and histogram of distances that come in blocks."""

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
        # Pairwise update of mean and squared deviation: a plain sum of squares loses a small spread in
        # rounding.
        total, step = self.count + distances.size, mean - self.mean
        self.squares += squares + step**2 * self.count * distances.size / total
        self.mean += step * distances.size / total
        self.count = total

    @property
    def std(self) -> float:
        return float(np.sqrt(self.squares / self.count)) if self.count else float("nan")


def l2_normalise(features_ND: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, in float64; a row of zeros stays zero.

    Raises:
        ValueError: If the array is not (N, D) or a value is not finite.
    """
    features_ND = np.asarray(features_ND, np.float64)
    if features_ND.ndim != 2:
        raise ValueError(f"features are (N, D), not {features_ND.shape}")
    if not np.isfinite(features_ND).all():
        raise ValueError("features hold values that are not finite")
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
    """Means, gap, spread and histograms of the cross-modality distances, as defined at the top of this file.

    The pairs are visited in blocks, so memory does not grow with their number.

    Args:
        features_ND: (N, D), any length.
        identities_N: (N,).
        infrared_N: bool (N,).
        bins: Number of histogram bins over [0, 2], >= 1.
        block: Visible and infrared images per block, >= 1; block ** 2 distances are held at once.

    Raises:
        ValueError: If a modality has no image, lengths differ or a value is not finite.
    """
    features_ND, identities_N = l2_normalise(features_ND), np.asarray(identities_N)
    infrared_N = np.asarray(infrared_N, bool)
    if identities_N.shape != (len(features_ND),) or infrared_N.shape != (len(features_ND),):
        raise ValueError(
            f"identities and modalities must be given for each of the {len(features_ND)} features"
        )
    if infrared_N.all() or not infrared_N.any():
        raise ValueError("cross-modality distances need at least one visible and one infrared image")
    if block < 1 or bins < 1:
        raise ValueError(f"block and bins are at least 1, not {block} and {bins}")

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
    # Rounding takes coinciding or opposite features slightly past the ends of the range.
    return np.sqrt(np.clip(squared_VR, 0, FARTHEST**2))
