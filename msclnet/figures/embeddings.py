"""Features of a few identities in the plane, placed by t-SNE (paper, Fig. 5 a, b).

N images, D feature channels, V visible and R infrared images of one identity.
"""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from msclnet.figures.distances import l2_normalise
from msclnet.figures.style import NEUTRAL, SMALL_SIZE, new_figure, styled


def pick_identities(identities_N: np.ndarray, infrared_N: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """Draw `count` identities, or fewer, that were seen in both modalities; sorted. ValueError for none."""
    both = np.intersect1d(identities_N[infrared_N], identities_N[~infrared_N])
    if not len(both):
        raise ValueError("no identity was seen in both modalities")
    return np.sort(np.random.default_rng(seed).permutation(both)[:count])


def tsne(features_ND: np.ndarray, *, seed: int, perplexity: float = 30.0) -> np.ndarray:
    """Place features (N, D) in the plane by t-SNE on their L2-normalised Euclidean distance: float32 (N, 2).

    It runs on one thread: with several, the order of sums and so the last digits may change. It starts from the
    principal components, so that other seeds change little. The perplexity is at most (N - 1) / 3. Features that all
    coincide are placed at the origin, where t-SNE itself gives NaN.
    """
    features_ND = l2_normalise(features_ND)
    points = len(features_ND)
    if np.ptp(features_ND, axis=0).max() == 0:
        return np.zeros((points, 2), np.float32)

    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        model = TSNE(
            perplexity=min(perplexity, (points - 1) / 3),
            init="pca",
            learning_rate="auto",
            random_state=seed,
            n_jobs=1,
        )
        return model.fit_transform(features_ND).astype(np.float32)


MOST_IDENTITIES = 20  # more colours cannot be distinguished


@styled()
def embedding_figure(
    points_N2: np.ndarray,
    identities_N: np.ndarray,
    infrared_N: np.ndarray,
    *,
    title: str = "Features by identity and modality (t-SNE)",
) -> Figure:
    """Scatter of placed features (N, 2): colour and number give the identity, the marker gives the modality.

    A line joins the centres of an identity's visible and infrared points: short lines mean that the modalities agree.
    At most 20 identities can be distinguished.
    """
    present = np.unique(identities_N)
    figure = new_figure(
        8.0,
        7.2,
        title=title,
        caption="Colour and number: identity, the number at the centre of its points. A line joins the "
        "centres of its visible and infrared points. Axes and distances of far groups have no meaning.",
    )
    axes = figure.subplots()
    # The full colours first, their pale twins last.
    colours = matplotlib.colormaps["tab20"]([*range(0, MOST_IDENTITIES, 2), *range(1, MOST_IDENTITIES, 2)])
    for identity, colour in zip(present, colours, strict=False):
        mine_N = identities_N == identity
        visible_V2, infrared_R2 = points_N2[mine_N & ~infrared_N], points_N2[mine_N & infrared_N]
        look = {"color": colour, "edgecolors": "black", "linewidths": 0.4}
        axes.scatter(*visible_V2.T, marker="o", s=30, **look)
        axes.scatter(*infrared_R2.T, marker="^", s=36, **look)
        if len(visible_V2) and len(infrared_R2):
            axes.plot(
                *np.stack([visible_V2.mean(0), infrared_R2.mean(0)]).T,
                color=colour,
                linewidth=2.2,
                zorder=0.9,
            )
        axes.annotate(
            str(identity),
            tuple(points_N2[mine_N].mean(0)),
            ha="center",
            va="center",
            fontsize=SMALL_SIZE,
            fontweight="bold",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )
    counts = {"o": f"visible ({np.sum(~infrared_N)} images)", "^": f"infrared ({np.sum(infrared_N)} images)"}
    look: dict[str, Any] = {"color": NEUTRAL, "markeredgecolor": "black", "linestyle": "none"}
    handles = [Line2D([], [], marker=marker, label=label, **look) for marker, label in counts.items()]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=2)
    axes.set(xlabel="t-SNE axis 1 (no unit)", ylabel="t-SNE axis 2 (no unit)")
    axes.set_title("1 identity" if len(present) == 1 else f"{len(present)} identities", loc="left")
    axes.margins(0.06)
    return figure
