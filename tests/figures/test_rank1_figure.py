"""The picture of the results: means as bars, seeds as dots."""

from typing import Any

import numpy as np
import pytest

from msclnet.figures.overview import rank1_figure


def test_bars_dots_and_chance(assert_legible):
    rows = {"MSCLNet (whole)": [0.5, 0.4, 0.45], "baseline": [0.2], "not run": []}
    figure = rank1_figure(
        rows, chance={"random ranker": 0.01, "colour histogram": 0.014}, caption="Synthetic data."
    )
    axes: Any = figure.axes[0]
    assert len(figure.axes) == 1
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([45, 20])
    dots = [cloud.get_offsets() for cloud in axes.collections]
    assert dots[0][:, 0].tolist() == pytest.approx([50, 40, 45])
    assert dots[0][:, 1].tolist() == [0, 0, 0]
    assert dots[1].tolist() == [[pytest.approx(20), 1]]
    assert [text.get_text() for text in axes.texts] == ["45.0 %", "20.0 %", "no result"]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(rows)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row on top
    assert [line.get_xdata()[0] for line in axes.lines] == pytest.approx([1, 1.4])
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["random ranker 1.0 %", "colour histogram 1.4 %"]
    assert "Synthetic data." in figure.get_supxlabel()
    assert_legible(figure)


@pytest.mark.parametrize(
    "rows", [{"only": [0.0]}, {"only": []}, {f"row {i}": [0.99, 1.0] for i in range(15)}]
)
def test_extreme_rows_stay_legible(assert_legible, rows):
    figure = rank1_figure(rows)
    assert np.isfinite(figure.axes[0].get_xlim()).all()
    assert_legible(figure)


def test_nothing_and_per_cent_are_refused():
    with pytest.raises(ValueError, match="at least one variant"):
        rank1_figure({})
    with pytest.raises(ValueError, match=r"share in \[0, 1\]"):
        rank1_figure({"a": [47.0]})
    with pytest.raises(ValueError, match=r"random: Rank-1 is a share"):
        rank1_figure({"a": [0.4]}, chance={"random": 1.2})
