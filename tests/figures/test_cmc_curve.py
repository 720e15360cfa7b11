"""The CMC figure draws means, bands and chance in per cent."""

from typing import Any

import numpy as np
import pytest

from msclnet.figures.curves import cmc_figure


@pytest.mark.parametrize("longest", [1, 20, 300])
def test_curves_bands_and_chance(assert_legible, longest):
    mean = np.linspace(0.3, 0.9, longest)
    std = np.full(longest, 0.02)
    figure = cmc_figure(
        {"MSCLNet": (mean, std), "baseline": (mean / 2, std)},
        chance={"random ranker": np.linspace(0.01, 0.2, longest)},
        caption="Synthetic data, infrared → visible, all-search, single-shot",
    )
    axes: Any = figure.axes[0]
    assert len(figure.axes) == 1
    ranks = list(range(1, longest + 1))
    assert [line.get_xdata().tolist() for line in axes.lines] == [ranks] * 3
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 100 * mean)
    np.testing.assert_allclose(axes.lines[1].get_ydata(), 50 * mean)
    np.testing.assert_allclose(axes.lines[2].get_ydata(), 100 * np.linspace(0.01, 0.2, longest))
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(28)
    assert band[:, 1].max() == pytest.approx(100 * mean[-1] + 2)
    assert len({str(line.get_linestyle()) for line in axes.lines}) == 3
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [
        "MSCLNet: Rank-1 30.0 ± 2.0 %",
        "baseline: Rank-1 15.0 ± 2.0 %",
        "random ranker: Rank-1 1.0 %",
    ]
    assert len(axes.get_xticks()) >= 1
    assert_legible(figure)


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "1 to 4 curves"),
        ({str(i): ([0.5], [0]) for i in range(5)}, "1 to 4 curves"),
        ({"a": ([50.0], [1.0])}, r"share in \[0, 1\]"),
        ({"a": ([], [])}, "at least one share"),
        ({"a": ([float("nan")], [0.0])}, r"share in \[0, 1\]"),
        ({"a": ([0.5, 0.6], [0.1])}, "differ in shape"),
    ],
)
def test_wrong_curves_are_named(curves, message):
    with pytest.raises(ValueError, match=message):
        cmc_figure(curves)
