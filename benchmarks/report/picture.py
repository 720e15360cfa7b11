"""All figures at a glance."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.core.facts import busy
from benchmarks.core.result import Section
from benchmarks.report.bars import draw_rates, draw_seconds, draw_times
from benchmarks.report.curves import draw_growth
from msclnet.figures.style import new_figure, styled

AXES = ("identities", "images", "gallery images")


@styled()
def picture(facts: Mapping[str, Any], sections: Sequence[Section]) -> Figure:
    """Training, embedding and ranking as ratios, rates of input, growth on log axes.

    Args:
        facts: See benchmarks.core.facts.
        sections: Those that were run; panels of others say so.
    """
    by_key = {section.key: section for section in sections}
    where = f"{facts['cores']} cores of {facts['processor']}; GPU: {facts['gpu']}; {facts['date']}"
    note = (
        f" The machine was busy (load {facts['load']}): trust the ratios alone."
        if busy(facts["load"])
        else ""
    )
    figure = new_figure(
        20,
        15,
        title="Benchmarks",
        caption=f"{where}. Medians over interleaved turns; orange: bf16; gray: the reference.{note}",
    )
    # Each line has its own widths, since the names beside the bars differ in length.
    places = figure.add_gridspec(3, 1)
    top, middle, bottom = (
        figure.add_subfigure(places[line]).subplots(1, panels) for line, panels in enumerate((2, 3, 3))
    )
    draw_times(top[0], by_key.get("training"), title="Training step")
    draw_times(top[1], by_key.get("embedding"), title="Embedding")
    draw_rates(middle[0], by_key.get("input"), title="Input, one core")
    draw_times(middle[1], by_key.get("ranking"), title="Ranking", reference=False)
    draw_seconds(middle[2], by_key.get("startup"), title="Start-up of each stage")
    curves = by_key["growth"].curves if "growth" in by_key else ()
    for panel, axis in zip(bottom, AXES, strict=True):
        draw_growth(panel, curves, axis=axis)
    return figure
