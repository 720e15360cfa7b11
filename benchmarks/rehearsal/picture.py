"""A picture of SYSU-MM01's size and weight for a millisecond: someone in two colours before a wall, and much noise."""

from functools import cache

import cv2
import numpy as np

INFRARED_CAMERAS = (3, 6)
HEIGHTS = (250, 500)
ASPECTS = (0.36, 0.44)  # width over height
WIDTHS = (100, 200)
BYTES = (22_500, 27_500)  # aimed at; what comes out strays by about a tenth
QUALITY = 95

# At this quality a pixel with noise of standard deviation s takes about OFFSET + SLOPE * ln(s) bits. Measured.
OFFSET, SLOPE = {False: -0.63, True: 0.53}, {False: 2.25, True: 1.67}
POOL = 640  # side of the noise that pictures take pieces of


def draw(*, identity: int, camera: int, number: int) -> bytes:
    """A JPEG file; each has pixels of its own, the same ones in every run.

    100 to 200 x 250 to 500 pixels, 20 to 30 KiB. Infrared pictures have three equal channels.
    """
    infrared = camera in INFRARED_CAMERAS
    rng = np.random.default_rng((1, identity, camera, number))
    height = int(rng.integers(HEIGHTS[0], HEIGHTS[1] + 1))
    width = int(np.clip(round(height * rng.uniform(*ASPECTS)), *WIDTHS))
    pixels = _person(identity, camera, height=height, width=width, rng=rng)
    bits = 8 * rng.uniform(*BYTES) / (height * width)
    noise = np.exp((bits - OFFSET[infrared]) / SLOPE[infrared])
    y, x = rng.integers(POOL - height), rng.integers(POOL - width)
    piece = _noise()[y : y + height, x : x + width]
    pixels = cv2.scaleAdd(piece, float(noise), pixels)
    picture = cv2.convertScaleAbs(np.clip(pixels, 0, 255))
    if infrared:
        picture = cv2.merge([np.ascontiguousarray(picture[:, :, 1])] * 3)
    encoded, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not encoded:
        raise RuntimeError(
            f"OpenCV could not encode image {number} of identity {identity} by camera {camera}"
        )
    return data.tobytes()


def _person(identity: int, camera: int, *, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """float32 (height, width, 3)."""
    clothes = np.random.default_rng((2, identity)).uniform(30, 220, (2, 3))
    wall = np.random.default_rng((3, camera)).uniform(70, 170, 3) * rng.uniform(0.9, 1.1)
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = wall
    centre = round(width * rng.uniform(0.45, 0.55))
    for (top, bottom), colour in zip(((0.14, 0.52), (0.5, 0.95)), clothes.tolist(), strict=True):
        middle = round(height * (top + bottom) / 2)
        axes = (width // 4, round(height * (bottom - top) / 2))
        cv2.ellipse(picture, (centre, middle), axes, 0, 0, 360, colour, -1)
    cv2.circle(picture, (centre, round(0.09 * height)), width // 9, (110, 130, 170), -1)
    return picture


@cache
def _noise() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((POOL, POOL, 3), dtype=np.float32)
