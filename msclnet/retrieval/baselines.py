"""Reference features without learning: the figures that chance and colour alone reach.

Both are scored by the same protocols as a network's features.

Axes: N images, H x W pixels, C colour channels, S strips, B bins, D feature width.
"""

import numpy as np
from numpy.typing import NDArray

CHUNK_IMAGES = 64
WIDTH = 64  # of a random feature


def random_features(count: int, *, seed: int) -> NDArray[np.float32]:
    """A random ranker: independent Gaussian features.

    For each query the gallery's distances are then independent and alike in distribution, so every order of
    the gallery is equally likely. One draw is scored, not the exact expectation; over thousands of queries
    and ten trials it is close (the spread over trials is reported).

    Args:
        count: Number of images.
        seed: Same seed, same features.

    Returns:
        float32 (count, WIDTH).
    """
    return np.random.default_rng(seed).standard_normal((count, WIDTH), dtype=np.float32)


def colour_histograms(
    images_NHWC: NDArray[np.uint8], *, strips: int = 6, bins: int = 8, step: int = 2
) -> NDArray[np.float32]:
    """Joint histogram of red, green and blue in each horizontal strip.

    Shares are square-rooted: the cosine of two such features is the Bhattacharyya coefficient of the
    histograms.

    Args:
        images_NHWC: uint8 images, three channels; may be a memory map, of which a few images are read at a time.
        strips: Number of horizontal strips.
        bins: Number of bins of each channel, 1 to 32.
        step: Every how many pixels one is counted, in both directions.

    Returns:
        float32 (N, strips * bins ** 3), each row of length 1.

    Raises:
        ValueError: The images are not uint8 (N, H, W, 3), or strips, bins or step do not fit them.
    """
    if images_NHWC.dtype != np.uint8 or images_NHWC.ndim != 4 or images_NHWC.shape[3] != 3:
        raise ValueError(f"images must be uint8 (N, H, W, 3), got {images_NHWC.dtype} {images_NHWC.shape}")
    count, height = images_NHWC.shape[:2]
    rows = len(range(0, height, step)) if step >= 1 else 0
    if not 1 <= strips <= rows or not 1 <= bins <= 32:
        raise ValueError(
            f"strips must be 1 .. {rows} and bins 1 .. 32, got {strips} and {bins} (step {step})"
        )

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
