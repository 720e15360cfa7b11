"""Rank-1 and mAP of many methods at a glance."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from msclnet.visualization.style import DPI, INFRARED, NEUTRAL, RIGHT, SMALL_SIZE, new_figure, styled
from pipelines.reporting.document import Kind, Picture

COLOURS: dict[Kind, str] = {"plain": NEUTRAL, "paper": INFRARED, "ours": RIGHT, "missing": NEUTRAL}


@dataclass(frozen=True)
class Method:
    """One method's Rank-1 and mAP in percent, None where there is none."""

    name: str
    rank1: float | None
    mAP: float | None
    kind: Kind


@dataclass(frozen=True)
class Panel:
    """One panel with its methods from top to bottom."""

    title: str
    methods: Sequence[Method]


@styled()
def dot_plot(title: str, panels: Sequence[Panel]) -> Picture:
    """Panels side by side over the same methods: Rank-1 as a disc, mAP as a ring.

    Args:
        title: The data set.
        panels: All with the same methods in the same order.
    """
    methods = panels[0].methods
    figure = new_figure(10, 1.2 + 0.23 * len(methods), title=title)
    axes_of = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(axes_of, panels, strict=True):
        for height, method in enumerate(panel.methods):
            colour = COLOURS[method.kind]
            if method.rank1 is not None and method.mAP is not None:
                axes.plot([method.rank1, method.mAP], [height, height], color=colour, linewidth=1, alpha=0.5)
            if method.mAP is not None:
                axes.plot(method.mAP, height, "o", color=colour, markerfacecolor="white", markersize=6)
            if method.rank1 is not None:
                axes.plot(method.rank1, height, "o", color=colour, markersize=6)
        axes.set(title=panel.title, xlim=(0, 100), xlabel="percent")
    axes_of[0].set_yticks(range(len(methods)), [method.name for method in methods], fontsize=SMALL_SIZE)
    axes_of[0].invert_yaxis()
    for label, method in zip(axes_of[0].get_yticklabels(), methods, strict=True):
        weight = "bold" if method.kind in ("paper", "ours") else "normal"
        label.set(color=COLOURS[method.kind], fontweight=weight)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return Picture(
        name=title.lower(),
        png=stream.getvalue(),
        description=f"{title}: Rank-1 and mAP of each method of the table above, by year",
        caption="Disc: Rank-1; ring: mAP. Orange: the paper's MSCLNet; green: this project, where it was run.",
    )
