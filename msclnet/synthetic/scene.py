"""Backgrounds: one wide scene for each room, of which every picture shows a piece.

A scene is (SCENE_ROWS, SCENE_COLUMNS, 4) uint8 reflectance in 255ths (red, green, blue, near infrared), drawn for
bodies SCENE_BODY pixels high that stand near row GROUND. Plants are bright in near infrared, glass and asphalt dark.
"""

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np

from msclnet.synthetic.identity import SCENE_STREAM

Room = Literal["hall", "corridor", "garden", "plaza", "yard"]
ROOMS: tuple[Room, ...] = ("hall", "corridor", "garden", "plaza", "yard")

SCENE_ROWS, SCENE_COLUMNS = 560, 1500
SCENE_BODY = 270
GROUND = 440
Colour = tuple[float, float, float, float]
Box = Callable[[float, float, float, float, Colour], None]


def _plants(scene: np.ndarray, rng: np.random.Generator, low: int, high: int, count: int) -> None:
    """Scatters leaves between two rows."""
    for _ in range(count):
        shade = rng.uniform(0.45, 1.2)
        leaf = (0.2 * shade, 0.38 * shade, 0.13 * shade, min(0.95, 0.8 * shade))
        centre = (int(rng.integers(SCENE_COLUMNS)), int(rng.integers(low, high)))
        axes = (int(rng.integers(5, 17)), int(rng.integers(3, 10)))
        cv2.ellipse(scene, centre, axes, float(rng.uniform(0, 180)), 0, 360, leaf, -1, cv2.LINE_AA)


def _floor(scene: np.ndarray, row: int, colour: Colour, joint: Colour, spacing: int) -> None:
    """A floor from a row down, with joints that run together in the distance."""
    scene[row:] = colour
    depth = 14.0
    y = row + depth
    while y < SCENE_ROWS:
        cv2.line(scene, (0, int(y)), (SCENE_COLUMNS, int(y)), joint, 2, cv2.LINE_AA)
        depth *= 1.45
        y += depth
    for k in range(-30, 60):
        bottom = k * spacing * 2 - SCENE_COLUMNS // 4
        top = int(SCENE_COLUMNS / 2 + (bottom - SCENE_COLUMNS / 2) * 0.45)
        cv2.line(scene, (top, row), (bottom, SCENE_ROWS), joint, 1, cv2.LINE_AA)


def _hall(scene: np.ndarray, rng: np.random.Generator, box: Box) -> None:
    scene[:] = (0.82, 0.78, 0.68, 0.7)
    box(0, 250, SCENE_COLUMNS, 300, (0.55, 0.42, 0.3, 0.5))
    _floor(scene, 300, (0.6, 0.57, 0.52, 0.5), (0.42, 0.4, 0.38, 0.34), 70)
    for x in (90, 520, 1120):
        box(x, 60, x + 130, 300, (0.42, 0.27, 0.16, 0.6))
        box(x + 14, 84, x + 116, 165, (0.5, 0.34, 0.22, 0.66))
        box(x + 108, 185, x + 120, 195, (0.8, 0.75, 0.5, 0.8))
    for x in (300, 400, 760, 900, 1350):
        red, green, blue, infrared = (float(v) for v in rng.uniform(0.2, 0.85, 4))
        box(x, 90, x + 70, 190, (0.95, 0.95, 0.93, 0.9))
        box(x + 7, 97, x + 63, 183, (red, green, blue, infrared))


def _corridor(scene: np.ndarray, rng: np.random.Generator, box: Box) -> None:
    scene[:] = (0.66, 0.72, 0.7, 0.6)
    box(0, 170, SCENE_COLUMNS, 320, (0.42, 0.52, 0.52, 0.46))
    _floor(scene, 320, (0.45, 0.46, 0.44, 0.36), (0.36, 0.37, 0.35, 0.28), 110)
    for x in range(40, 900, 58):
        shade = float(rng.uniform(0.85, 1.1))
        box(x, 95, x + 54, 320, (0.5 * shade, 0.56 * shade, 0.62 * shade, 0.42 * shade))
        for y in (112, 120, 128):
            box(x + 14, y, x + 40, y + 3, (0.2, 0.22, 0.25, 0.16))
    for x in (960, 1160, 1360):
        box(x, 30, x + 130, 160, (0.85, 0.92, 0.98, 0.3))
        box(x + 61, 30, x + 67, 160, (0.7, 0.7, 0.7, 0.7))
    box(0, 320, SCENE_COLUMNS, 330, (0.2, 0.2, 0.2, 0.15))


def _garden(scene: np.ndarray, rng: np.random.Generator, box: Box) -> None:
    scene[:] = (0.3, 0.42, 0.24, 0.7)
    _plants(scene, rng, 0, 330, 2600)
    for x in rng.integers(0, SCENE_COLUMNS, 9):
        box(float(x), 0, float(x) + float(rng.uniform(14, 34)), 330, (0.25, 0.18, 0.12, 0.42))
    _plants(scene, rng, 240, 345, 700)
    _floor(scene, 345, (0.62, 0.57, 0.48, 0.52), (0.55, 0.5, 0.42, 0.46), 200)
    box(0, 345, SCENE_COLUMNS, 356, (0.7, 0.68, 0.64, 0.6))


def _plaza(scene: np.ndarray, rng: np.random.Generator, box: Box) -> None:
    scene[:] = (0.6, 0.42, 0.34, 0.55)
    for row, y in enumerate(range(0, 290, 14)):
        box(0, y, SCENE_COLUMNS, y + 2, (0.72, 0.66, 0.6, 0.66))
        for x in range(-20 * (row % 2), SCENE_COLUMNS, 40):
            box(x, y, x + 2, y + 14, (0.72, 0.66, 0.6, 0.66))
    for x in range(60, SCENE_COLUMNS, 240):
        box(x, 40, x + 110, 200, (0.82, 0.82, 0.8, 0.8))
        tint = float(rng.uniform(0.7, 1.2))
        box(x + 8, 48, x + 102, 192, (0.25 * tint, 0.32 * tint, 0.4 * tint, 0.12))
    _floor(scene, 290, (0.7, 0.7, 0.69, 0.58), (0.5, 0.5, 0.5, 0.4), 60)
    for x in (180, 800, 1290):  # tubs
        box(x, 240, x + 120, 310, (0.35, 0.36, 0.36, 0.3))


def _yard(scene: np.ndarray, rng: np.random.Generator, box: Box) -> None:
    scene[:] = (0.4, 0.4, 0.42, 0.22)
    _plants(scene, rng, 150, 310, 1200)
    for x in range(0, SCENE_COLUMNS, 26):
        box(x, 90, x + 3, 310, (0.5, 0.5, 0.5, 0.62))
    box(0, 100, SCENE_COLUMNS, 106, (0.5, 0.5, 0.5, 0.62))
    for x in (260, 980):
        box(x, 40, x + 240, 300, (0.55, 0.52, 0.5, 0.36))
        box(x + 80, 120, x + 170, 300, (0.3, 0.3, 0.34, 0.5))
    _floor(scene, 310, (0.35, 0.35, 0.36, 0.3), (0.45, 0.45, 0.45, 0.36), 150)


def draw_scene(seed: int, room: Room) -> np.ndarray:
    """Draws a room.

    Args:
        seed: Seed of the data set.
        room: Which.

    Returns:
        (SCENE_ROWS, SCENE_COLUMNS, 4) uint8: red, green, blue, near infrared.
    """
    rng = np.random.default_rng([SCENE_STREAM, seed, ROOMS.index(room)])
    scene = np.zeros((SCENE_ROWS, SCENE_COLUMNS, 4), np.float32)

    def box(x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        cv2.rectangle(scene, (int(x0), int(y0)), (int(x1), int(y1)), colour, -1)

    painters: dict[Room, Callable[[np.ndarray, np.random.Generator, Box], None]] = {
        "hall": _hall, "corridor": _corridor, "garden": _garden, "plaza": _plaza, "yard": _yard,
    }  # fmt: skip
    painters[room](scene, rng, box)
    dirt = cv2.GaussianBlur(rng.normal(size=scene.shape[:2]).astype(np.float32), (0, 0), 18)
    grain = rng.normal(size=scene.shape[:2]).astype(np.float32)
    scene *= (1 + 0.05 * dirt / float(dirt.std()) + 0.025 * grain)[:, :, None]
    return np.rint(255 * np.clip(cv2.GaussianBlur(scene, (0, 0), 1.3), 0, 1)).astype(np.uint8)
