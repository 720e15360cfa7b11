"""The picture of preprocessing: every step shown as given, at one scale within a row."""

import numpy as np
import pytest

from msclnet.figures.augmentation import STEPS, AugmentationSteps, augmentation_figure


def steps(person, identity: int, *, infrared: bool, size: tuple[int, int]) -> AugmentationSteps:
    original = person(identity, 1, infrared=infrared, height=size[0], width=size[1])
    resized = person(identity, 1, infrared=infrared)
    cropped = np.pad(resized, ((10, 10), (10, 10), (0, 0)))[3:291, 17:161]
    flipped = cropped[:, ::-1]
    exchanged = flipped[:, :, [1, 1, 1]]
    erased = exchanged.copy()
    erased[50:150, 20:100] = 110
    label = "infrared, camera 1" if infrared else "visible, camera 1"
    return AugmentationSteps(label, original, resized, cropped, flipped, exchanged, erased)


@pytest.mark.parametrize("sizes", [[(150, 60)], [(150, 60), (300, 150), (288, 144)]])
def test_rows_show_the_given_images_in_order_at_one_scale(person, assert_legible, sizes):
    rows = [steps(person, i, infrared=i % 2 == 1, size=size) for i, size in enumerate(sizes)]
    figure = augmentation_figure(
        rows, caption="Padding 10 pixels, flip probability 0.5, erased area 2 to 20 %."
    )
    grid = np.array(figure.axes).reshape(len(rows), 6)
    assert [axes.get_title() for axes in grid[0]] == list(STEPS)
    for axes_of_row, row in zip(grid, rows, strict=True):
        assert axes_of_row[0].get_ylabel() == row.label
        spans = set()
        for axes, step in zip(axes_of_row, STEPS, strict=True):
            image = getattr(row, step)
            assert np.array_equal(axes.images[0].get_array(), image)
            assert axes.get_xlabel() == f"{image.shape[0]} x {image.shape[1]}"
            spans.add((abs(np.diff(axes.get_xlim())[0]), abs(np.diff(axes.get_ylim())[0])))
            left, right = axes.get_xlim()
            assert left <= -0.5
            assert image.shape[1] - 0.5 <= right
        assert len(spans) == 1
    assert "Padding 10 pixels" in figure.get_supxlabel()
    assert_legible(figure)
    widths = {round(axes.get_position().width, 6) for axes in grid[0]}
    assert len(widths) == 1
