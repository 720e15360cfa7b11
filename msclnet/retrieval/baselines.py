"""Reference features without learning: the figures that chance and colour alone reach.

Both are scored by the same protocols as a network's features.

Axes: N images, H x W pixels, C colour channels, S strips, B bins, D feature width.
"""

import numpy as np
from numpy.typing import NDArray

CHUNK_IMAGES = 64
WIDTH = 64  # of a random feature


def random_features(count: int, *, seed: int) -> NDArray[np.float32]:
    """A random ranker: independent Gaussian features, float32 (count, WIDTH).

    For each query the gallery's distances are then independent and alike in distribution, so every order of
    the gallery is equally likely. One draw is scored, not the exact expectation; over thousands of queries
    and ten trials it is close (the spread over trials is reported).
    """
    return np.random.default_rng(seed).standard_normal((count, WIDTH), dtype=np.float32)


def colour_histograms(
    images_NHWC: NDArray[np.uint8], *, strips: int = 6, bins: int = 8, step: int = 2
) -> NDArray[np.float32]:
    """Joint histogram of red, green and blue in each horizontal strip: float32 (N, strips * bins ** 3).

    Shares are square-rooted, so that a row has length 1 and the cosine of two is the Bhattacharyya coefficient of the
    histograms. Every `step`-th pixel is counted, in both directions. Images may be a memory map, of which a few are
    read at a time.
    """
    count, height = images_NHWC.shape[:2]
    rows = len(range(0, height, step))
    width = strips * bins**3
    strip_H = np.arange(rows) * strips // rows
    powers = np.array([bins**2, bins, 1])
    histograms_ND = np.empty((count, width), np.float32)
    for start in range(0, count, CHUNK_IMAGES):
        pixels = np.asarray(images_NHWC[start : start + CHUNK_IMAGES, ::step, ::step])
        places_BHW = (pixels.astype(np.int64) * bins >> 8) @ powers
        places_BHW += (strip_H * bins**3)[None, :, None]
        places_BHW += np.arange(len(pixels))[:, None, None] * width
        counts = np.bincount(places_BHW.reshape(-1), minlength=len(pixels) * width).reshape(-1, width)
        histograms_ND[start : start + CHUNK_IMAGES] = np.sqrt(counts / counts.sum(axis=1, keepdims=True))
    return histograms_ND
