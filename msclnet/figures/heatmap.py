"""Heatmaps: which places of the last feature map carry a score (supplement, Fig. 2).

Legend: N images, C channels, h x w places of the feature map, P people, H x W pixels.

The gradient is taken at the network's last map only: one forward and one backward pass through the head for
the whole batch, where a full backward pass image by image costs several times as much.
"""

from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from msclnet.figures.style import SMALL_SIZE, new_figure, show_image, styled

OPACITY = 0.8


def _colour_map() -> ListedColormap:
    """Bright colours that fade out towards no heat, as on the images."""
    colours = matplotlib.colormaps["plasma"](np.linspace(0, 1, 256))
    colours[:, 3] = OPACITY * np.linspace(0, 1, 256)
    return ListedColormap(colours)


COLOUR_MAP = _colour_map()


def cam(feature_maps_NCHW: Tensor, scorer: Callable[[Tensor], Tensor]) -> Tensor:
    """Gradient-weighted class activation maps (Grad-CAM) from a feature map and a head.

    A channel's weight is the mean of the score's gradient over the map's places; the heat of a place is the
    positive part of the weighted sum of its channels. Each image's heat is divided by its own peak; an image
    without any positive place keeps an all-zero map, so 0 always means "no support for the score".

    Args:
        feature_maps_NCHW: The last block's output, (N, C, h, w), floating point. It is not changed.
        scorer: Differentiable head from maps (N, C, h, w) to one score per image (N,), for example the cosine
            similarity with the identity's mean feature in the other modality. It must treat the images
            independently (batch normalisation in evaluation mode). Its parameters receive no gradient.

    Returns:
        Heat (N, h, w), float32, in [0, 1], on the device of the maps.

    Raises:
        ValueError: If the maps or scores have another shape, the scores do not depend on the maps, or a value
            is not finite.
    """
    if feature_maps_NCHW.ndim != 4 or not feature_maps_NCHW.is_floating_point():
        raise ValueError(
            f"feature maps are floating point (N, C, h, w), not {feature_maps_NCHW.dtype} "
            f"{tuple(feature_maps_NCHW.shape)}"
        )
    with torch.inference_mode(False), torch.enable_grad():
        maps_NCHW = feature_maps_NCHW.detach().clone().requires_grad_()
        scores_N = scorer(maps_NCHW)
        if scores_N.shape != maps_NCHW.shape[:1]:
            raise ValueError(f"the scorer returns (N,) = ({len(maps_NCHW)},), not {tuple(scores_N.shape)}")
        if not scores_N.requires_grad:
            raise ValueError(
                "the scorer's result does not depend on the feature maps through differentiable steps"
            )
        (gradients_NCHW,) = torch.autograd.grad(scores_N.sum(), maps_NCHW, allow_unused=True)
    if gradients_NCHW is None:
        raise ValueError("the scorer's result does not depend on the feature maps")
    weights_NC = gradients_NCHW.float().mean(dim=(2, 3))
    heat_Nhw = torch.einsum("nc,nchw->nhw", weights_NC, maps_NCHW.detach().float()).relu()
    if not heat_Nhw.isfinite().all():
        raise ValueError("the feature maps or the scorer's gradient hold values that are not finite")
    peak_N = heat_Nhw.amax(dim=(1, 2), keepdim=True)
    return torch.where(peak_N > 0, heat_Nhw / peak_N.clamp_min(torch.finfo(torch.float32).tiny), 0.0)


def overlay(image_HW3: np.ndarray, heat_hw: np.ndarray) -> np.ndarray:
    """Lay heat over an image: the opacity follows the heat, so places without heat show the image unchanged.

    Args:
        image_HW3: uint8 (H, W, 3).
        heat_hw: (h, w) in [0, 1]; enlarged bilinearly to the image.

    Returns:
        uint8 (H, W, 3).
    """
    heat_11hw = torch.from_numpy(np.array(heat_hw, dtype=np.float32))[None, None]
    height, width = image_HW3.shape[:2]
    heat_HW = F.interpolate(heat_11hw, size=(height, width), mode="bilinear", align_corners=False)[
        0, 0
    ].numpy()
    heat_HW4 = COLOUR_MAP(heat_HW)
    colour_HW3, opacity_HW1 = 255 * heat_HW4[..., :3], heat_HW4[..., 3:]
    return np.rint((1 - opacity_HW1) * image_HW3 + opacity_HW1 * colour_HW3).astype(np.uint8)


@styled()
def heatmap_figure(
    images_visible_PHW3: np.ndarray,
    cams_visible_Phw: np.ndarray,
    images_infrared_PHW3: np.ndarray,
    cams_infrared_Phw: np.ndarray,
    identities_P: Sequence[int],
    *,
    score: str = "similarity to the same person in the other modality",
) -> Figure:
    """One column per person; rows: visible image, its heat, infrared image, its heat.

    Args:
        images_visible_PHW3: uint8 (P, H, W, 3).
        cams_visible_Phw: Heat of the visible images (P, h, w) in [0, 1].
        images_infrared_PHW3: uint8 (P, H, W, 3), of the same people in the same order.
        cams_infrared_Phw: Heat of the infrared images (P, h, w) in [0, 1].
        identities_P: The people's numbers.
        score: What the heat supports, for the caption.

    Raises:
        ValueError: If there is nobody to show, the lengths differ or heat lies outside [0, 1].
    """
    people = len(identities_P)
    heats = (np.asarray(cams_visible_Phw), np.asarray(cams_infrared_Phw))
    if people == 0:
        raise ValueError("a heatmap figure needs at least one person")
    if any(len(each) != people for each in (images_visible_PHW3, images_infrared_PHW3, *heats)):
        raise ValueError(f"images and heatmaps must be given for each of the {people} identities")
    if any(not ((heat >= 0) & (heat <= 1)).all() for heat in heats):
        raise ValueError("heat lies in [0, 1]")

    rows = [
        ("visible", list(images_visible_PHW3)),
        ("visible, heat", [overlay(*pair) for pair in zip(images_visible_PHW3, heats[0], strict=True)]),
        ("infrared", list(images_infrared_PHW3)),
        ("infrared, heat", [overlay(*pair) for pair in zip(images_infrared_PHW3, heats[1], strict=True)]),
    ]
    image_width = 1.05
    image_height = image_width * images_visible_PHW3[0].shape[0] / images_visible_PHW3[0].shape[1]
    figure = new_figure(
        max(image_width * people + 1.4, 6.0),
        4 * image_height + 1.5,
        title="Where the network looks, by person and modality",
        caption=f"Heat: places whose features support the score ({score}), each image scaled to its own "
        "peak. An image without any supporting place shows no heat.",
    )
    grid = figure.subplots(4, people, squeeze=False)
    for row, (name, images) in enumerate(rows):
        for column, image_HW3 in enumerate(images):
            show_image(grid[row, column], image_HW3)
        grid[row, 0].set_ylabel(name)
    for column, identity in enumerate(identities_P):
        grid[0, column].set_title(f"identity {identity}", fontsize=SMALL_SIZE)
    bar = ScalarMappable(norm=Normalize(0, 1), cmap=COLOUR_MAP)
    figure.colorbar(bar, ax=grid, label="heat (share of the image's peak)", shrink=0.5, aspect=30, pad=0.02)
    return figure
