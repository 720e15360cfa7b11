"""Heat map of a pair: which places of two images speak for each other.

The method is that of msclnet.figures.heatmap. The score of an image is the cosine similarity of its feature to the
other image's feature, so that the heat of each image belongs to this pair and to no other.
"""

import numpy as np
import torch
from torch.nn import functional as F

from msclnet.figures.heatmap import cam, overlay
from msclnet.models.network import MSCLNet


def pair_heat(network: MSCLNet, images_2HW3: np.ndarray, infrared_2: tuple[bool, bool]) -> np.ndarray:
    """Heat of both images of a pair.

    Args:
        network: In eval mode.
        images_2HW3: uint8 RGB, of the size that the network was trained with.
        infrared_2: Which stream each image takes.

    Returns:
        float32 (2, h, w) in [0, 1], the size of the network's last map; each image is scaled to its own peak. An image
        without any place that supports the similarity is zero everywhere.
    """
    device = next(network.parameters()).device
    maps = []
    for image_HW3, infrared in zip(images_2HW3, infrared_2, strict=True):
        image = torch.from_numpy(np.ascontiguousarray(image_HW3)).to(device)[None]
        with torch.no_grad():
            maps.append(network.maps(image[:0], image) if infrared else network.maps(image, image[:0]))
    maps_2Chw = torch.cat(maps)
    with torch.no_grad():
        other_2C = network.head(maps_2Chw)[1].flip(0)
    return cam(maps_2Chw, lambda m: F.cosine_similarity(network.head(m)[1], other_2C, dim=1)).cpu().numpy()


def pair_heatmap(network: MSCLNet, images_2HW3: np.ndarray, infrared_2: tuple[bool, bool]) -> np.ndarray:
    """Both images under their heat, the first on the left: uint8 RGB (H, 2 W, 3). Arguments as for `pair_heat`."""
    heat_2hw = pair_heat(network, images_2HW3, infrared_2)
    return np.concatenate([overlay(*pair) for pair in zip(images_2HW3, heat_2hw, strict=True)], axis=1)
