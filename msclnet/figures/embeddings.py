"""The map of embeddings by t-SNE, and its figure.

Features in the plane by t-SNE, of a few identities (paper, Fig. 5 a, b).

Legend: N images, D feature channels.

The picture of features in the plane: colour by identity, marker by modality (paper, Fig. 5 a, b).

Legend: N images, V visible and R infrared images of one identity.
"""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from msclnet.figures.distances import l2_normalise
from msclnet.figures.style import NEUTRAL, SMALL_SIZE, new_figure, styled

FEWEST_POINTS = 4


def pick_identities(identities_N: np.ndarray, infrared_N: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """Draw identities that were seen in both modalities.

    Args:
        identities_N: (N,).
        infrared_N: bool (N,).
        count: How many, >= 1; fewer are returned when fewer were seen in both.
        seed: Of the draw.

    Returns:
        Sorted identities, at most count.

    Raises:
        ValueError: If count < 1 or no identity was seen in both modalities.
    """
    infrared_N = np.asarray(infrared_N, bool)
    both = np.intersect1d(np.asarray(identities_N)[infrared_N], np.asarray(identities_N)[~infrared_N])
    if count < 1:
        raise ValueError(f"count is at least 1, not {count}")
    if not len(both):
        raise ValueError("no identity was seen in both modalities")
    return np.sort(np.random.default_rng(seed).permutation(both)[:count])


def tsne(features_ND: np.ndarray, *, seed: int, perplexity: float = 30.0) -> np.ndarray:
    """Place features in the plane by t-SNE on their L2-normalised Euclidean distance.

    It runs on one thread, for with several the order of sums, and so the last digits, may change. A
    perplexity that is too large for the number of points is lowered to (N - 1) / 3. Features that all
    coincide are all placed at the origin, where t-SNE itself would give NaN.

    Args:
        features_ND: (N, D), N >= 4, D >= 2.
        seed: Of scikit-learn's solver. The start is the principal components, so other seeds change little.
        perplexity: About how many neighbours count, > 0.

    Returns:
        float32 (N, 2); the axes have no unit and no meaning of their own.

    Raises:
        ValueError: If there are fewer than 4 points or 2 channels, or a value is not finite.
    """
    features_ND = l2_normalise(features_ND)
    points, channels = features_ND.shape
    if points < FEWEST_POINTS or channels < 2:
        raise ValueError(
            f"t-SNE needs at least {FEWEST_POINTS} points of 2 channels, not {points} of {channels}"
        )
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


MOST_IDENTITIES = 20


@styled()
def embedding_figure(
    points_N2: np.ndarray,
    identities_N: np.ndarray,
    infrared_N: np.ndarray,
    *,
    title: str = "Features by identity and modality (t-SNE)",
) -> Figure:
    """Scatter of placed features: colour and number = identity, marker = modality.

    A line joins the centres of an identity's visible and infrared points: short lines mean that the
    modalities agree.

    Args:
        points_N2: (N, 2).
        identities_N: (N,), at most 20 different ones, for no more colours can be told apart.
        infrared_N: bool (N,).
        title: The figure's title.

    Raises:
        ValueError: If there is no point, lengths differ or there are more than 20 identities.
    """
    points_N2, identities_N = np.asarray(points_N2), np.asarray(identities_N)
    infrared_N = np.asarray(infrared_N, bool)
    present = np.unique(identities_N)
    images = len(identities_N)
    if images == 0 or points_N2.shape != (images, 2) or len(infrared_N) != images:
        raise ValueError(
            f"points {points_N2.shape} must be (N, 2) with an identity and a modality each, N >= 1"
        )
    if len(present) > MOST_IDENTITIES:
        raise ValueError(f"at most {MOST_IDENTITIES} identities can be told apart, not {len(present)}")

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
    axes.legend(
        handles=[
            Line2D(
                [], [], color=NEUTRAL, markeredgecolor="black", linestyle="none", marker=marker, label=label
            )
            for marker, label in counts.items()
        ],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.09),
        ncols=2,
    )
    axes.set(xlabel="t-SNE axis 1 (no unit)", ylabel="t-SNE axis 2 (no unit)")
    axes.set_title("1 identity" if len(present) == 1 else f"{len(present)} identities", loc="left")
    axes.margins(0.06)
    return figure
