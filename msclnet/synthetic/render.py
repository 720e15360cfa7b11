"""From a person, a camera and a number to a picture."""

import math
from functools import lru_cache

import cv2
import numpy as np

from msclnet.datasets.records import Modality
from msclnet.synthetic.body import draw_posture
from msclnet.synthetic.camera import CAMERAS, Camera, expose
from msclnet.synthetic.canvas import MESH_X, MESH_Y, Canvas, Light
from msclnet.synthetic.figure import paint_figure
from msclnet.synthetic.identity import IMAGE_STREAM, SCENE_STREAM, TRACK_STREAM, Person, draw_person
from msclnet.synthetic.material import BANDS
from msclnet.synthetic.scene import GROUND, SCENE_BODY, SCENE_COLUMNS, Room, draw_scene
from msclnet.synthetic.subject import Subject
from msclnet.synthetic.view import View
from msclnet.synthetic.wardrobe import Wardrobe, open_wardrobe

HEIGHTS = (240, 341)  # rows of a picture, upper bound excluded
ASPECTS = (0.42, 0.58)  # width over height of a detector's box
POOL = 640  # side of the noise that pictures take pieces of


@lru_cache(maxsize=4)
def _dressed(seed: int, identity: int, modality: Modality) -> tuple[Person, Wardrobe]:
    person = draw_person(seed, identity)
    return person, open_wardrobe(person, BANDS[modality])


@lru_cache(maxsize=16)
def _scene(seed: int, room: Room, bands: tuple[int, int]) -> np.ndarray:
    return np.ascontiguousarray(draw_scene(seed, room)[:, :, slice(*bands)])


@lru_cache(maxsize=2)
def _noise(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sensor noise (POOL, POOL, 3) and folds of cloth (POOL, POOL): drawn once, used in pieces."""
    rng = np.random.default_rng([SCENE_STREAM, seed, 99])
    white = rng.normal(size=(POOL, POOL, 3)).astype(np.float32)
    white += 0.5 * cv2.GaussianBlur(white, (0, 0), 0.8)
    folds = cv2.GaussianBlur(rng.normal(size=(POOL, POOL)).astype(np.float32), (0, 0), sigmaX=4, sigmaY=7)
    return white / white.std(), 1 + np.clip(0.07 * folds / folds.std(), -0.2, 0.2)


def _piece(pool: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    y, x = int(rng.integers(POOL - height)), int(rng.integers(POOL - width))
    return pool[y : y + height, x : x + width]


def _heading(seed: int, identity: int, camera: Camera) -> float:
    """The yaw of a person's walk past a camera: fixed for the two, whatever the picture."""
    rng = np.random.default_rng([TRACK_STREAM, seed, identity, camera.number])
    towards = (0.0, math.pi, -math.pi / 2, math.pi / 2)[rng.choice(4, p=camera.heading)]
    return towards + rng.normal(0, 0.35)


def _backdrop(
    seed: int, camera: Camera, bands: slice, view: View, *, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """(C, H, W) float32 light from a piece of the camera's scene, the ground where the person stands."""
    height, width = size
    scene = _scene(seed, camera.room, (bands.start, bands.stop))
    zoom = SCENE_BODY / view.scale * rng.uniform(0.9, 1.15)  # scene pixels in a picture's pixel
    left = rng.uniform(0, SCENE_COLUMNS - width * zoom)
    feet = view.top + view.scale
    top = GROUND + rng.uniform(-35, 25) - feet * zoom
    matrix = np.array([[zoom, 0, left], [-view.roll * zoom, zoom, top]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    piece = cv2.warpAffine(scene, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    light = camera.backdrop * (camera.ambient + 0.55 * camera.direct) * rng.uniform(0.85, 1.1)
    return np.ascontiguousarray(piece.reshape(height, width, -1).transpose(2, 0, 1)) * np.float32(light / 255)


def _occlude(pixels: np.ndarray, rng: np.random.Generator) -> None:
    """Lets something stand in front of the person: a post at the side or a thing at the bottom."""
    _, height, width = pixels.shape
    colour = rng.uniform(0.08, 0.6, len(pixels)).astype(np.float32)[:, None, None]
    if rng.random() < 0.5:
        edge = rng.uniform(0.12, 0.28) * width
        across = MESH_X[:height, :width]
        cover = np.clip((edge - across if rng.random() < 0.5 else across - width + edge) + 0.5, 0, 1)
        shade = 0.8 + 0.4 * across / width
    else:
        edge = rng.uniform(0.12, 0.27) * height
        down = MESH_Y[:height, :width]
        cover = np.clip(down - height + edge + 0.5, 0, 1)
        shade = 0.75 + 0.35 * np.exp(-np.abs(down - height + edge) / 6)
    pixels += cover * (colour * shade - pixels)


def render_person(*, seed: int, identity: int, camera: int, image: int) -> np.ndarray:
    """Renders one picture of one person.

    Args:
        seed: Seed of the data set, >= 0.
        identity: Number of the person, >= 0.
        camera: 1 to 6; 3 and 6 see near infrared.
        image: Number of the picture, >= 0; each shows another moment.

    Returns:
        (H, W, 3) uint8 RGB, H between 240 and 340, W about half of it; an infrared picture has three equal bands.
    """
    eye = CAMERAS[camera]
    person, wardrobe = _dressed(seed, identity, eye.modality)
    rng = np.random.default_rng([IMAGE_STREAM, seed, identity, camera, image])
    bands = BANDS[eye.modality]

    height = int(rng.integers(*HEIGHTS))
    width = round(height * rng.uniform(*ASPECTS))
    share = rng.uniform(0.86, 0.95) if rng.random() < 0.95 else rng.uniform(1.0, 1.08)  # now and then cut off
    scale = height * share
    view = View(
        yaw=_heading(seed, identity, eye) + rng.normal(0, 0.22),
        pitch=rng.uniform(*eye.pitch),
        scale=scale,
        centre=width * (0.5 + rng.normal(0, 0.025)),
        top=max(-0.05 * height, (height - scale) * rng.uniform(0.35, 0.65)),
        taper=rng.uniform(0.0, 0.5) * eye.pitch[1],
        roll=rng.normal(0, 0.02),
    )
    joints = draw_posture(person.body, person.gait, rng)
    pixels = _backdrop(seed, eye, bands, view, size=(height, width), rng=rng)
    white, folds = _noise(seed)
    light = np.array(eye.light) + rng.normal(0, 0.12, 3)
    light /= np.linalg.norm(light)
    strength = rng.uniform(0.85, 1.15)
    canvas = Canvas(
        pixels,
        Light(float(light[0]), float(light[1]), float(light[2]), eye.direct * strength, eye.ambient),
        _piece(folds, height, width, rng),
    )
    feet = [view.project(joints[name]) for name in ("ankle_l", "ankle_r")]
    middle = sum(foot[0] for foot in feet) / 2
    floor = max(foot[1] for foot in feet) + 0.03 * scale
    canvas.shadow(middle - 0.05 * scale * float(light[0]), floor, 0.18 * scale, 0.04 * scale, 0.6)
    paint_figure(Subject(canvas, view, person, wardrobe, joints, bands))
    if rng.random() < 0.04:
        _occlude(pixels, rng)
    noise = _piece(white, height, width, rng)[:, :, : len(pixels)]
    return expose(pixels, eye, noise, rng)
