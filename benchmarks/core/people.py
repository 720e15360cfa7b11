"""Pictures of rendered people, as JPEG files or at the networks' size."""

import cv2
import numpy as np

from benchmarks.core.presets import HEIGHT, WIDTH
from msclnet.images.decode import decode, resize
from msclnet.synthetic.render import render_person


def jpeg(identity: int, *, camera: int = 1) -> bytes:
    """One picture as a file."""
    picture = render_person(seed=1, identity=identity, camera=camera, image=0)
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def load(data: bytes) -> np.ndarray:
    """uint8 RGB (288, 144, 3), decoded and resized as the pipeline does it."""
    return resize(decode(data).pixels, height=HEIGHT, width=WIDTH)


def people(count: int) -> np.ndarray:
    """uint8 RGB (count, 288, 144, 3), each of somebody else."""
    return np.stack([load(jpeg(identity)) for identity in range(count)])
