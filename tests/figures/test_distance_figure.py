"""The drawn distributions carry the statistics and the definition."""

from typing import Any

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from msclnet.figures.distances import distance_figure, distance_statistics


def statistics(sample):
    return distance_statistics(sample.features, sample.identities, sample.infrared)


@pytest.mark.parametrize("shifts", [{"MSCLNet": 0.4}, {"baseline": 1.0, "MSCLNet": 0.4}])
def test_one_panel_per_model_with_unit_areas_means_and_gap(make_features, assert_legible, shifts):
    models = {name: statistics(make_features(20, 5, shift=shift)) for name, shift in shifts.items()}
    figure = distance_figure(models)
    assert len(figure.axes) == len(models)
    caption = " ".join(figure.get_supxlabel().split())
    assert "Euclidean distance of L2-normalised features over all visible-infrared pairs" in caption
    panels: list[Any] = list(figure.axes)
    for axes, (name, each) in zip(panels, models.items(), strict=True):
        steps = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
        assert len(steps) == 2
        for patch in steps:
            values, edges, _ = patch.get_data()
            assert np.sum(values * np.diff(edges)) == pytest.approx(1)
            assert axes.get_xlim()[0] < edges[0]
            assert edges[-1] < axes.get_xlim()[1]
        assert [line.get_xdata()[0] for line in axes.lines] == [each.mean_intra, each.mean_inter]
        assert axes.get_title() == f"{name}: gap {each.gap:.3f}"
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        assert (
            texts[0]
            == f"intra: mean {each.mean_intra:.3f}, std {each.std_intra:.3f}, {each.pairs_intra:,} pairs"
        )
        assert (
            texts[1]
            == f"inter: mean {each.mean_inter:.3f}, std {each.std_inter:.3f}, {each.pairs_inter:,} pairs"
        )
    assert_legible(figure)


def test_one_identity_says_that_there_are_no_inter_pairs(make_features, assert_legible):
    figure = distance_figure({"tiny": statistics(make_features(1, 4))})
    axes: Any = figure.axes[0]
    assert axes.get_title() == "tiny: gap undefined"
    assert axes.get_legend().get_texts()[1].get_text() == "inter: no pairs"
    assert_legible(figure)


def test_collapsed_features_are_drawn():
    collapsed = distance_statistics(np.ones((6, 3)), np.arange(6) // 2, np.arange(6) % 2 == 1)
    assert distance_figure({"collapsed": collapsed}).axes[0].get_title() == "collapsed: gap 0.000"


def test_no_model_is_refused():
    with pytest.raises(ValueError, match="at least one model"):
        distance_figure({})
