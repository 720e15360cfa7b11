"""The scatter draws each point with its identity and modality."""

from typing import Any

import numpy as np
import pytest

from msclnet.figures.embeddings import embedding_figure


@pytest.mark.parametrize("identities", [1, 16, 20])
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


def test_nothing_too_many_and_unequal_are_refused():
    with pytest.raises(ValueError, match="N >= 1"):
        embedding_figure(np.zeros((0, 2)), np.zeros(0), np.zeros(0, bool))
    with pytest.raises(ValueError, match="at most 20"):
        embedding_figure(np.zeros((21, 2)), np.arange(21), np.zeros(21, bool))
    with pytest.raises(ValueError, match="must be"):
        embedding_figure(np.zeros((3, 2)), np.zeros(2), np.zeros(3, bool))
