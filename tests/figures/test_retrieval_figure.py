"""Nearest gallery images against sorting by hand; frames by right and wrong."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from msclnet.figures import style
from msclnet.figures.rankings import MISSING, retrieval_figure, top_k


@pytest.mark.parametrize("k", [1, 4, 10])
def test_order_matches_sorting_by_distance_then_place(k):
    generator = np.random.default_rng(k)
    distances_QG = generator.integers(0, 4, (30, 12)) / 4.0  # many ties
    valid_QG = generator.random((30, 12)) < 0.6
    order_QK, nearest_QK = top_k(distances_QG, valid_QG, k=k)
    assert order_QK.shape == nearest_QK.shape == (30, k)
    for query in range(30):
        kept = [(distances_QG[query, g], g) for g in range(12) if valid_QG[query, g]]
        expected = sorted(kept)[:k]
        filled = len(expected)
        assert order_QK[query, :filled].tolist() == [place for _, place in expected]
        assert nearest_QK[query, :filled].tolist() == [distance for distance, _ in expected]
        assert (order_QK[query, filled:] == MISSING).all()
        assert np.isnan(nearest_QK[query, filled:]).all()


def test_without_mask_all_are_valid_and_infinite_distances_come_last():
    order_QK, nearest_QK = top_k(np.array([[np.inf, 2.0, 1.0]]), k=3)
    assert order_QK.tolist() == [[2, 1, 0]]
    assert nearest_QK.tolist() == [[1.0, 2.0, np.inf]]


def test_masked_nan_is_ignored_and_a_valid_one_refused():
    distances_QG = np.array([[np.nan, 1.0]])
    assert top_k(distances_QG, np.array([[False, True]]), k=1)[0].tolist() == [[1]]
    with pytest.raises(ValueError, match="NaN"):
        top_k(distances_QG, k=1)
    with pytest.raises(ValueError, match="at least 1"):
        top_k(distances_QG, k=0)
    with pytest.raises(ValueError, match="both be"):
        top_k(distances_QG, np.ones((2, 2), bool), k=1)


def sample(person, identities_Q, identities_QK):
    identities_QK = np.asarray(identities_QK)
    queries, k = identities_QK.shape
    return {
        "query_images_QHW3": np.stack([person(i, 3, infrared=True) for i in identities_Q]),
        "gallery_images_QKHW3": np.stack(
            [np.stack([person(i, 1, infrared=False) for i in row]) for row in identities_QK]
        ),
        "query_identities_Q": np.asarray(identities_Q),
        "query_cameras_Q": np.full(queries, 3),
        "gallery_identities_QK": identities_QK,
        "gallery_cameras_QK": np.full((queries, k), 1),
        "distances_QK": np.arange(queries * k).reshape(queries, k) / 10,
        "direction": "infrared → visible",
        "protocol": "SYSU-MM01 all-search, single-shot, trial 1",
    }


def test_frames_tell_right_from_wrong_by_colour_line_and_mark(person, assert_legible):
    identities_QK = [
        [12, 12, 300, 45, 12, 301, 302, 303, 304, 305],
        [45, 12, 45, 310, 311, 312, 313, 314, 315, 45],
    ]
    given = sample(person, [12, 45], identities_QK)
    given["distances_QK"][1, 9] = np.nan
    figure = retrieval_figure(**given)
    assert len(figure.axes) == 2 * 11
    assert "infrared → visible" in figure.get_suptitle()
    assert "single-shot" in figure.get_suptitle()
    grid = np.array(figure.axes).reshape(2, 11)
    for query in range(2):
        for place in range(10):
            axes = grid[query, place + 1]
            if (query, place) == (1, 9):
                assert not axes.images
                assert axes.texts[0].get_text() == "none\nleft"
                continue
            right = identities_QK[query][place] == [12, 45][query]
            colours = {to_hex(side.get_edgecolor()) for side in axes.spines.values()}
            assert colours == {(style.RIGHT if right else style.WRONG).lower()}
            assert all((side.get_linestyle() == "-") == right for side in axes.spines.values())
            caption = axes.get_xlabel()
            assert caption.startswith("✓" if right else "✗")
            assert f"id {identities_QK[query][place]} c1" in caption
            assert f"d {given['distances_QK'][query, place]:.3f}" in caption
            assert np.array_equal(axes.images[0].get_array(), given["gallery_images_QKHW3"][query, place])
        assert grid[query, 0].get_xlabel().strip() == f"id {[12, 45][query]} c3"
    assert [axes.get_title() for axes in grid[0]] == ["query", *map(str, range(1, 11))]
    assert_legible(figure)


def test_one_query_and_one_place_are_enough(person, assert_legible):
    figure = retrieval_figure(**sample(person, [12], [[12]]))
    assert len(figure.axes) == 2
    assert_legible(figure)


def test_empty_or_unequal_input_is_refused(person):
    given = sample(person, [12], [[12, 13]])
    with pytest.raises(ValueError, match="at least one each"):
        retrieval_figure(**{**given, "distances_QK": np.zeros((0, 10))})
    with pytest.raises(ValueError, match="1 queries x 2 places"):
        retrieval_figure(**{**given, "gallery_cameras_QK": np.ones((1, 3))})
