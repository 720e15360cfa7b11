"""Nearest gallery images against sorting by hand; frames by right and wrong, or by the stated modality."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from msclnet.figures import style
from msclnet.figures.rankings import COLUMNS, MISSING, retrieval_figure, search_figure, top_k


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


def test_infinite_distances_come_last_and_a_masked_nan_is_ignored():
    order_QK, nearest_QK = top_k(np.array([[np.inf, 2.0, 1.0]]), k=3)
    assert order_QK.tolist() == [[2, 1, 0]]
    assert nearest_QK.tolist() == [[1.0, 2.0, np.inf]]
    assert top_k(np.array([[np.nan, 1.0]]), np.array([[False, True]]), k=1)[0].tolist() == [[1]]


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
        "distance": "cosine distance",
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


def search_sample(person, count, **changes):
    given = {
        "query_image_HW3": person(1, 3, infrared=True),
        "gallery_images_KHW3": [person(number, 1, infrared=False) for number in range(count)],
        "query_name": "night.jpg",
        "gallery_names_K": [f"cam1/{number:04d}.jpg" for number in range(count)],
        "similarities_K": [0.9 - 0.01 * number for number in range(count)],
        "query_modality": "infrared",
        "gallery_modality": "visible",
        "gallery_size": 301,
        "model": "results/train (weights 0123456789ab)",
    }
    return {**given, **changes}


@pytest.mark.parametrize("count", [1, 10, 25])
def test_every_image_stands_under_its_rank_and_above_its_similarity(person, assert_legible, count):
    given = search_sample(person, count)
    figure = search_figure(**given)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == count + 1
    assert [axes.get_title() for axes in shown] == ["query", *map(str, range(1, count + 1))]
    np.testing.assert_array_equal(np.asarray(shown[0].images[0].get_array()), given["query_image_HW3"])
    assert shown[0].get_xlabel().strip() == "night.jpg"
    for place, axes in enumerate(shown[1:]):
        pixels = np.asarray(axes.images[0].get_array())
        np.testing.assert_array_equal(pixels, given["gallery_images_KHW3"][place])
        similarity = f"{given['similarities_K'][place]:.3f}"
        assert axes.get_xlabel() == f"{similarity}\ncam1\n{place:04d}.jpg"
    assert_legible(figure)


def test_the_query_stands_left_and_ranks_read_as_text_does(person):
    figure = search_figure(**search_sample(person, COLUMNS + 3))
    figure.draw_without_rendering()
    shown = [axes for axes in figure.axes if axes.images]
    corners = [(round(-axes.get_position().y1, 3), axes.get_position().x0) for axes in shown[1:]]
    assert corners == sorted(corners)
    assert len({row for row, _ in corners}) == 2
    assert shown[0].get_position().x1 < min(x for _, x in corners)


def test_frames_tell_the_stated_modality(person):
    for query, gallery in (("infrared", "visible"), ("visible", "infrared"), ("visible", "visible")):
        figure = search_figure(**search_sample(person, 3, query_modality=query, gallery_modality=gallery))
        colours = [
            {to_hex(side.get_edgecolor()).upper() for side in axes.spines.values()} for axes in figure.axes
        ]
        known = {"visible": style.VISIBLE, "infrared": style.INFRARED}
        assert colours == [{known[query]}, *[{known[gallery]}] * 3]
        assert f"{query} → {gallery}" in figure.get_suptitle()


def test_awkward_names_are_drawn_as_they_are_or_shortened(person, assert_legible, tmp_path, recwarn):
    names = [
        "a$b$_{c^.jpg",
        "照片.jpg",
        "new\nline.jpg",
        "\udcff.jpg",
        "a very long name of many words, number 17.jpg",
        "a/very/deep/folder/of/many/more/folders/x.jpg",
    ]
    figure = search_figure(
        **search_sample(
            person, 6, gallery_names_K=names, query_name="$.png", model="/" + "long" * 60 + "/照片"
        )
    )
    labels = [axes.get_xlabel().split("\n")[1:] for axes in figure.axes[1:]]
    assert labels[:4] == [["a$b$_{c^.jpg"], ["??.jpg"], ["new?line.jpg"], ["?.jpg"]]
    assert labels[4][0].startswith("a very")
    assert labels[4][0].endswith("17.jpg")
    assert [len(label) for label in labels[5]] == [15, 5]
    assert_legible(figure)
    style.save(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert [str(each.message) for each in recwarn if "Glyph" in str(each.message)] == []
