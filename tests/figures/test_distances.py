"""Cross-modality distances against loops over the pairs, and their figure."""

import math
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from msclnet.figures.distances import distance_figure, distance_statistics


def by_loops(features_ND, identities_N, infrared_N) -> tuple[list[float], list[float]]:
    unit = [[value / math.sqrt(sum(v * v for v in row)) for value in row] for row in features_ND.tolist()]
    intra, inter = [], []
    for i, one in enumerate(unit):
        for j, other in enumerate(unit):
            if not infrared_N[i] and infrared_N[j]:
                distance = math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))
                (intra if identities_N[i] == identities_N[j] else inter).append(distance)
    return intra, inter


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_means_spread_gap_and_histogram_match_loops(make_features, block):
    sample = make_features(5, 3, channels=8)
    keep = np.random.default_rng(0).permutation(len(sample.identities))[:23]  # uneven, unordered
    arguments = sample.features[keep], sample.identities[keep], sample.infrared[keep]
    intra, inter = by_loops(*arguments)
    statistics = distance_statistics(*arguments, bins=20, block=block)
    assert (statistics.pairs_intra, statistics.pairs_inter) == (len(intra), len(inter))
    assert statistics.mean_intra == pytest.approx(sum(intra) / len(intra), rel=1e-9)
    assert statistics.mean_inter == pytest.approx(sum(inter) / len(inter), rel=1e-9)
    assert statistics.gap == pytest.approx(sum(inter) / len(inter) - sum(intra) / len(intra), rel=1e-7)
    for distances, std, histogram in (
        (intra, statistics.std_intra, statistics.histogram_intra),
        (inter, statistics.std_inter, statistics.histogram_inter),
    ):
        mean = sum(distances) / len(distances)
        assert std == pytest.approx(
            math.sqrt(sum((d - mean) ** 2 for d in distances) / len(distances)), rel=1e-7
        )
        counted = [0] * 20
        for distance in distances:
            counted[min(int(distance / 0.1), 19)] += 1
        assert histogram.tolist() == counted
    np.testing.assert_allclose(statistics.bin_edges, [0.1 * edge for edge in range(21)])


def test_known_angles():
    features_ND = np.array([[2.0, 0.0], [5.0, 0.0], [0.0, 0.1], [-3.0, 0.0]])
    statistics = distance_statistics(features_ND, np.array([1, 1, 2, 3]), np.array([False, True, True, True]))
    assert statistics.mean_intra == 0
    assert statistics.std_intra == 0
    assert statistics.mean_inter == pytest.approx((math.sqrt(2) + 2) / 2)
    assert statistics.std_inter == pytest.approx((2 - math.sqrt(2)) / 2)
    assert statistics.histogram_inter[-1] == 1  # distance 2 belongs to the last bin


def test_small_spread_survives_many_blocks():
    angles = np.repeat([1e-4, 1.1e-4], 300)
    infrared_ND = np.stack([np.cos(angles), np.sin(angles)], 1)
    features_ND = np.concatenate([[[1.0, 0.0]], infrared_ND])
    infrared_N = np.arange(601) > 0
    statistics = distance_statistics(features_ND, np.zeros(601), infrared_N, block=10)
    assert statistics.std_intra == pytest.approx(0.5e-5, rel=1e-2)


def test_groups_without_pairs_are_nan():
    features_ND = np.eye(4)
    one_person = distance_statistics(features_ND, np.zeros(4), np.array([0, 0, 1, 1], bool))
    assert (one_person.pairs_intra, one_person.pairs_inter) == (4, 0)
    assert one_person.mean_intra == pytest.approx(math.sqrt(2))
    assert np.isnan([one_person.mean_inter, one_person.std_inter, one_person.gap]).all()
    strangers = distance_statistics(features_ND, np.arange(4), np.array([0, 0, 1, 1], bool))
    assert (strangers.pairs_intra, strangers.pairs_inter) == (0, 4)
    assert np.isnan([strangers.mean_intra, strangers.std_intra, strangers.gap]).all()


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
        assert texts == [
            f"intra: mean {each.mean_intra:.3f}, std {each.std_intra:.3f}, {each.pairs_intra:,} pairs",
            f"inter: mean {each.mean_inter:.3f}, std {each.std_inter:.3f}, {each.pairs_inter:,} pairs",
        ]
    assert_legible(figure)


def test_one_identity_and_collapsed_features_are_drawn(make_features, assert_legible):
    collapsed = distance_statistics(np.ones((6, 3)), np.arange(6) // 2, np.arange(6) % 2 == 1)
    figure = distance_figure({"tiny": statistics(make_features(1, 4)), "collapsed": collapsed})
    panels: list[Any] = list(figure.axes)
    assert [axes.get_title() for axes in panels] == ["tiny: gap undefined", "collapsed: gap 0.000"]
    assert panels[0].get_legend().get_texts()[1].get_text() == "inter: no pairs"
    assert_legible(figure)
