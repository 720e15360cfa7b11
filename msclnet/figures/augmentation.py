"""Shows preprocessing and augmentation of an image, step by step; H x W pixels, different for each step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from msclnet.figures.style import NEUTRAL, SMALL_SIZE, new_figure, show_image, styled


@dataclass(frozen=True)
class AugmentationSteps:
    """One image after each step, uint8 RGB (H, W, 3); each step takes the result of the previous one."""

    label: str  # of the row, such as `visible, camera 1`
    original: np.ndarray  # as decoded, in its own size
    resized: np.ndarray  # as stored for training
    cropped: np.ndarray  # after zero padding and random crop
    flipped: np.ndarray
    exchanged: np.ndarray  # after the channel exchange; equal to `flipped` where it is off
    erased: np.ndarray


STEPS = ("original", "resized", "cropped", "flipped", "exchanged", "erased")


@styled()
def augmentation_figure(rows: Sequence[AugmentationSteps], *, caption: str = "") -> Figure:
    """One row per image, one column per step; all images of a row have the same scale."""
    about = "All images of a row at one scale; sizes are height x width in pixels."
    figure = new_figure(
        9.3,
        2.9 * len(rows) + 1.2,
        title="From the original image to the training image",
        caption=f"{about} {caption}".strip(),
    )
    grid = figure.subplots(len(rows), len(STEPS), squeeze=False)
    for axes_of_row, row in zip(grid, rows, strict=True):
        images = [np.asarray(getattr(row, step)) for step in STEPS]
        tallest = max(image.shape[0] for image in images)
        widest = max(image.shape[1] for image in images)
        for axes, image in zip(axes_of_row, images, strict=True):
            show_image(axes, image)
            # Equal limits around images of unequal size give the row one scale.
            height, width = image.shape[:2]
            top, left = (tallest - height) / 2, (widest - width) / 2
            axes.set(xlim=(-0.5 - left, width - 0.5 + left), ylim=(height - 0.5 + top, -0.5 - top))
            axes.spines[:].set_visible(False)
            axes.add_patch(
                Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=NEUTRAL, linewidth=0.8)
            )
            axes.set_xlabel(f"{height} x {width}", fontsize=SMALL_SIZE, labelpad=3)
        axes_of_row[0].set_ylabel(row.label)
    for axes, step in zip(grid[0], STEPS, strict=True):
        axes.set_title(step)
    return figure
