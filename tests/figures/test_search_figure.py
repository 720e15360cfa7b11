"""The picture of a user's own search: what stands where."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from msclnet.figures import style
from msclnet.figures.rankings import COLUMNS, search_figure


def sample(person, count, **changes):
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


@pytest.mark.parametrize("count", [1, 4, 10, 11, 25])
def test_every_image_stands_under_its_rank_and_above_its_similarity(person, assert_legible, count):
    given = sample(person, count)
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
    figure = search_figure(**sample(person, 2 * COLUMNS + 3))
    figure.draw_without_rendering()
    shown = [axes for axes in figure.axes if axes.images]
    corners = [(round(-axes.get_position().y1, 3), axes.get_position().x0) for axes in shown[1:]]
    assert corners == sorted(corners)
    assert len({row for row, _ in corners}) == 3
    assert shown[0].get_position().x1 < min(x for _, x in corners)


def test_frames_tell_the_stated_modality(person):
    for query, gallery in (("infrared", "visible"), ("visible", "infrared"), ("visible", "visible")):
        figure = search_figure(**sample(person, 3, query_modality=query, gallery_modality=gallery))
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
        **sample(person, 6, gallery_names_K=names, query_name="$.png", model="/" + "long" * 60 + "/照片")
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


def test_nothing_or_unequal_input_is_refused(person):
    with pytest.raises(ValueError, match="at least one"):
        search_figure(**sample(person, 0))
    with pytest.raises(ValueError, match="not 3, 3 and 2"):
        search_figure(**sample(person, 3, similarities_K=[0.5, 0.4]))
