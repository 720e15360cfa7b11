"""The picture of features in the plane: colour by identity, marker by modality (paper, Fig. 5 a, b).

Legend: N images, V visible and R infrared images of one identity.
"""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from msclnet.visualization.style import NEUTRAL, SMALL_SIZE, new_figure, styled

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
