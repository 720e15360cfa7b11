"""t-SNE: reproducible, and adapted to few points; its figure shows each point with its identity and modality."""

from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from msclnet.figures.embeddings import embedding_figure, pick_identities, tsne


def test_identities_stay_together_in_the_plane(make_features):
    sample = make_features(6, 8, shift=0.2)
    points_N2 = tsne(sample.features, seed=0, perplexity=10)
    assert points_N2.shape == (96, 2)
    agree = 0
    for i in range(96):
        gaps = [np.hypot(*(points_N2[i] - points_N2[j])) if j != i else np.inf for j in range(96)]
        agree += sample.identities[int(np.argmin(gaps))] == sample.identities[i]
    assert agree > 0.95 * 96


def test_result_depends_on_direction_and_seed_alone(make_features):
    sample = make_features(5, 4)
    expected = tsne(sample.features, seed=3, perplexity=5)
    with threadpool_limits(limits=2):
        assert np.array_equal(expected, tsne(sample.features, seed=3, perplexity=5))
    assert np.allclose(expected, tsne(sample.features * np.float32(4), seed=3, perplexity=5))


def test_large_perplexity_becomes_a_third_of_the_other_points(make_features):
    features_ND = make_features(2, 4).features
    assert len(features_ND) == 16
    assert np.array_equal(tsne(features_ND, seed=0, perplexity=30), tsne(features_ND, seed=0, perplexity=5))
    assert not np.array_equal(
        tsne(features_ND, seed=0, perplexity=30), tsne(features_ND, seed=0, perplexity=4)
    )
    assert np.isfinite(tsne(features_ND[:4], seed=0)).all()


def test_collapsed_features_lie_at_the_origin():
    assert np.array_equal(tsne(np.ones((10, 4)) * np.arange(1, 11)[:, None], seed=0), np.zeros((10, 2)))


def test_picked_identities_were_seen_in_both_modalities():
    identities_N = np.array([5, 5, 7, 7, 9, 9, 11, 2, 2])
    infrared_N = np.array([0, 1, 0, 0, 1, 0, 1, 1, 0], bool)
    assert pick_identities(identities_N, infrared_N, count=10, seed=0).tolist() == [2, 5, 9]
    draws = {tuple(pick_identities(identities_N, infrared_N, count=2, seed=seed)) for seed in range(30)}
    assert draws == {(2, 5), (2, 9), (5, 9)}
    assert len({tuple(pick_identities(identities_N, infrared_N, count=2, seed=1)) for _ in range(5)}) == 1
    with pytest.raises(ValueError, match="both modalities"):
        pick_identities(identities_N, np.ones(9, bool), count=2, seed=0)


@pytest.mark.parametrize("identities", [1, 20])
def test_figure_draws_each_point_with_its_identity_and_modality(make_features, assert_legible, identities):
    sample = make_features(identities, 5)
    generator = np.random.default_rng(0)
    # Places on a ring: t-SNE itself is not needed to see what is drawn.
    angles = 2 * np.pi * (sample.identities // 7) / identities
    points_N2 = 10 * np.stack([np.cos(angles), np.sin(angles)], 1) + generator.normal(
        0, 0.2, (len(angles), 2)
    )
    figure = embedding_figure(points_N2, sample.identities, sample.infrared)
    axes: Any = figure.axes[0]
    assert len(figure.axes) == 1
    clouds = axes.collections
    assert len(clouds) == 2 * identities
    colours = set()
    for place, identity in enumerate(np.unique(sample.identities)):
        visible, infrared = clouds[2 * place], clouds[2 * place + 1]
        mine = sample.identities == identity
        np.testing.assert_allclose(visible.get_offsets(), points_N2[mine & ~sample.infrared])
        np.testing.assert_allclose(infrared.get_offsets(), points_N2[mine & sample.infrared])
        assert np.array_equal(visible.get_facecolor(), infrared.get_facecolor())
        assert len(visible.get_paths()[0].vertices) != len(infrared.get_paths()[0].vertices)
        colours.add(tuple(visible.get_facecolor()[0]))
    assert len(colours) == identities
    assert [text.get_text() for text in axes.texts] == [str(i) for i in np.unique(sample.identities)]
    assert axes.get_title(loc="left") == {1: "1 identity"}.get(identities, f"{identities} identities")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [f"visible ({5 * identities} images)", f"infrared ({5 * identities} images)"]
    assert_legible(figure)


def test_one_image_and_one_modality_are_drawn():
    figure = embedding_figure(np.zeros((1, 2)), np.array([4]), np.array([True]))
    assert figure.axes[0].texts[0].get_text() == "4"
    assert not figure.axes[0].lines
