"""Six cameras: what they look at, how the light falls, and what their sensors do to a picture."""

from dataclasses import dataclass

import cv2
import numpy as np

from msclnet.datasets.records import Modality
from msclnet.synthetic.scene import Room


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
        number: 1 to 6, as in SYSU-MM01.
        modality: What it sees.
        room: Where it hangs; cameras 2 and 3 share a room.
        balance: Factors on red, green and blue.
        gain: Factor on all of them.
        gamma: Exponent of the response; below 1 lifts the shadows.
        saturation: 1 keeps colours, 0 makes grey.
        light: Direction towards the light (x right, y down, z to the camera).
        direct: Strength of that light.
        ambient: Strength of the light from everywhere.
        backdrop: Factor on the light that reaches the background.
        pitch: Least and greatest angle at which it looks down, radians.
        blur: Least and greatest standard deviation of the blur, pixels.
        noise: Standard deviation of the noise, grey values of 255.
        vignette: Loss of light in the corners.
        spot: Gain in the middle of an illuminator's beam.
        heading: Probabilities that people come, go, pass to the left or to the right.
    """

    number: int
    modality: Modality
    room: Room
    balance: tuple[float, float, float]
    gain: float
    gamma: float
    saturation: float
    light: tuple[float, float, float]
    direct: float
    ambient: float
    backdrop: float
    pitch: tuple[float, float]
    blur: tuple[float, float]
    noise: float
    vignette: float
    spot: float
    heading: tuple[float, float, float, float]


CAMERAS: dict[int, Camera] = {
    camera.number: camera
    for camera in (
        Camera(1, "visible", "hall", (1.1, 1.0, 0.82), 1.0, 0.9, 0.95, (-0.4, -0.6, 0.7), 0.5, 0.62, 0.95,
               (0.1, 0.2), (0.3, 0.7), 4.0, 0.1, 0.0, (0.76, 0.12, 0.06, 0.06)),
        Camera(2, "visible", "corridor", (0.9, 1.04, 0.94), 0.92, 0.98, 0.85, (0.2, -0.85, 0.5), 0.55, 0.55, 0.8,
               (0.2, 0.32), (0.5, 1.0), 6.0, 0.25, 0.0, (0.7, 0.18, 0.06, 0.06)),
        Camera(3, "infrared", "corridor", (1.0, 1.0, 1.0), 1.0, 0.85, 0.0, (0.05, -0.15, 0.98), 0.72, 0.3, 0.6,
               (0.15, 0.27), (0.5, 1.0), 5.0, 0.4, 0.25, (0.76, 0.12, 0.06, 0.06)),
        Camera(4, "visible", "garden", (0.97, 1.0, 1.08), 1.05, 1.0, 1.05, (0.75, -0.55, 0.4), 0.8, 0.45, 0.95,
               (0.05, 0.14), (0.3, 0.8), 4.0, 0.1, 0.0, (0.72, 0.16, 0.06, 0.06)),
        Camera(5, "visible", "plaza", (0.95, 0.98, 1.06), 1.1, 0.85, 0.7, (-0.1, -0.9, 0.4), 0.35, 0.72, 1.0,
               (0.08, 0.2), (0.4, 1.1), 5.0, 0.15, 0.0, (0.72, 0.16, 0.06, 0.06)),
        Camera(6, "infrared", "yard", (1.0, 1.0, 1.0), 0.92, 0.92, 0.0, (-0.15, -0.1, 0.97), 0.8, 0.22, 0.42,
               (0.06, 0.16), (0.5, 1.1), 6.0, 0.5, 0.3, (0.72, 0.16, 0.06, 0.06)),
    )
}  # fmt: skip

VISIBLE_CAMERAS = tuple(number for number, camera in CAMERAS.items() if camera.modality == "visible")
INFRARED_CAMERAS = tuple(number for number, camera in CAMERAS.items() if camera.modality == "infrared")
LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)


def _illumination(camera: Camera, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32: loss of light in the corners, and the beam of an illuminator."""
    y, x = np.mgrid[-1:1:24j, -1:1:12j].astype(np.float32)
    dy, dx = rng.uniform(-0.35, 0.35, 2)
    lost = 1 - camera.vignette * 0.5 * (x * x + y * y)
    beam = camera.spot * np.exp(-((x - dx) ** 2 + (y + 0.2 - dy) ** 2) * 2.2)
    return cv2.resize((lost + beam).astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def expose(light: np.ndarray, camera: Camera, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turns light into a picture: optics, sensor, response.

    Args:
        light: (C, H, W) float32 reflected light; C is 3 in a visible camera and 1 in an infrared one.
        camera: Whose optics and sensor.
        noise: (H, W, C) float32 with standard deviation 1.
        rng: Source of this picture's own gain, balance, blur and response.

    Returns:
        (H, W, 3) uint8 RGB; an infrared picture has three equal bands.
    """
    # An illuminator's light depends on how far the person is; daylight does not.
    low, high = (0.7, 1.24) if camera.modality == "infrared" else (0.86, 1.112)
    gain = camera.gain * rng.uniform(low, high)
    gamma = camera.gamma * rng.uniform(0.93, 1.07)
    balance = np.array(camera.balance) * rng.uniform(0.94, 1.06, 3)
    saturation = camera.saturation * rng.uniform(0.6, 1.0)
    blur = rng.uniform(*camera.blur)
    motion = int(rng.integers(3, 6)) if rng.random() < 0.08 else 0

    picture = np.ascontiguousarray(light.transpose(1, 2, 0))
    if camera.modality == "visible":
        mix = saturation * np.eye(3) + (1 - saturation) * np.repeat(LUMA, 3, axis=0)
        picture = cv2.transform(picture, (255 * gain * np.diag(balance) @ mix).astype(np.float32))
    else:
        picture = picture * np.float32(255 * gain)
    picture = cv2.GaussianBlur(picture, (0, 0), blur)
    if motion:
        picture = cv2.blur(picture, (motion, 1))
    picture = picture.reshape(*light.shape[1:], -1)
    picture *= _illumination(camera, picture.shape[:2], rng)[:, :, None]
    picture += noise * np.float32(camera.noise * rng.uniform(0.8, 1.2))
    np.clip(picture, 0, 255, out=picture)
    ramp = np.arange(256) / 255.0
    table = np.clip(np.rint(255 * ramp**gamma), 0, 255).astype(np.uint8)
    digital = cv2.LUT(picture.astype(np.uint8), table).reshape(picture.shape)
    return digital if camera.modality == "visible" else np.repeat(digital, 3, axis=2)
