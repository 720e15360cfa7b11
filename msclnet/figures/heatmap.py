"""Heatmaps: which places of the last feature map support a score (supplement, Fig. 2).

N images, C channels, h x w places of the feature map, P people, H x W pixels.

The gradient is taken at the network's last map alone: one forward and one backward pass through the head for the whole
batch. A full backward pass image by image costs several times as much.
"""

from collections.abc import Callable, Iterable, Sequence

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
    """Gradient-weighted class activation maps (Selvaraju et al., Grad-CAM, ICCV 2017) from a feature map and a head.

    The weight of a channel is the mean of the score's gradient over the places of the map. The heat of a place is the
    positive part of the weighted sum of its channels. The heat of each image is divided by its peak; without a
    positive place it is zero everywhere, so that 0 always means "no support for the score".

    Args:
        feature_maps_NCHW: Output of the last block, (N, C, h, w), floating point. It is not changed.
        scorer: Differentiable head from maps (N, C, h, w) to one score per image (N,), for example the cosine
            similarity with the identity's mean feature in the other modality. It treats the images independently
            (batch normalisation in evaluation mode). Its parameters receive no gradient.

    Returns:
        Heat (N, h, w), float32, in [0, 1], on the device of the maps.

    Raises:
        ValueError: A map or a gradient is not finite.
    """
    with torch.inference_mode(False), torch.enable_grad():
        maps_NCHW = feature_maps_NCHW.detach().clone().requires_grad_()
        (gradients_NCHW,) = torch.autograd.grad(scorer(maps_NCHW).sum(), maps_NCHW)
    weights_NC = gradients_NCHW.float().mean(dim=(2, 3))
    heat_Nhw = torch.einsum("nc,nchw->nhw", weights_NC, maps_NCHW.detach().float()).relu()
    if not heat_Nhw.isfinite().all():
        raise ValueError("the feature maps or the gradient of their score hold values that are not finite")
    peak_N = heat_Nhw.amax(dim=(1, 2), keepdim=True)
    return torch.where(peak_N > 0, heat_Nhw / peak_N.clamp_min(torch.finfo(torch.float32).tiny), 0.0)


def overlay(image_HW3: np.ndarray, heat_hw: np.ndarray) -> np.ndarray:
    """Lay heat (h, w) in [0, 1] over an image uint8 (H, W, 3); a place without heat shows the image unchanged."""
    heat_11hw = torch.from_numpy(np.array(heat_hw, dtype=np.float32))[None, None]
    size = image_HW3.shape[:2]
    heat_11HW = F.interpolate(heat_11hw, size=size, mode="bilinear", align_corners=False)
    heat_HW4 = COLOUR_MAP(heat_11HW[0, 0].numpy())
    colour_HW3, opacity_HW1 = 255 * heat_HW4[..., :3], heat_HW4[..., 3:]
    return np.rint((1 - opacity_HW1) * image_HW3 + opacity_HW1 * colour_HW3).astype(np.uint8)


@styled()
def heatmap_figure(
    images_visible_PHW3: np.ndarray,
    cams_visible_Phw: np.ndarray,
    images_infrared_PHW3: np.ndarray,
    cams_infrared_Phw: np.ndarray,
    identities_P: Sequence[int],
) -> Figure:
    """One column per person; rows: visible image, its heat, infrared image, its heat.

    Images are uint8 (P, H, W, 3), of the same people in the same order; heat is (P, h, w) in [0, 1].
    """
    people = len(identities_P)
    rows: list[tuple[str, Iterable[np.ndarray]]] = [
        ("visible", images_visible_PHW3),
        ("visible, heat", map(overlay, images_visible_PHW3, cams_visible_Phw)),
        ("infrared", images_infrared_PHW3),
        ("infrared, heat", map(overlay, images_infrared_PHW3, cams_infrared_Phw)),
    ]
    image_width = 1.05
    image_height = image_width * images_visible_PHW3[0].shape[0] / images_visible_PHW3[0].shape[1]
    figure = new_figure(
        max(image_width * people + 1.4, 6.0),
        4 * image_height + 1.5,
        title="Where the network looks, by person and modality",
        caption="Heat: places whose features support the score (similarity to the same person in the other modality), "
        "each image scaled to its own peak. An image without any supporting place shows no heat.",
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
