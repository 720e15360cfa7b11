"""The person who is being painted, and the stroke that all limbs are painted with."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from msclnet.synthetic.body import Point
from msclnet.synthetic.canvas import Canvas
from msclnet.synthetic.identity import Person
from msclnet.synthetic.texture import TEXELS
from msclnet.synthetic.view import View
from msclnet.synthetic.wardrobe import Wardrobe

Part = tuple[float, Callable[[], None]]  # nearness to the camera in body heights, painter


@dataclass(frozen=True)
class Subject:
    """One person at one moment, seen from one side.

    Attributes:
        canvas: Where to paint.
        view: From where.
        person: Whom.
        wardrobe: Their cloth, cut for the canvas's bands.
        joints: Their posture.
        bands: Which reflectances the canvas holds.
    """

    canvas: Canvas
    view: View
    person: Person
    wardrobe: Wardrobe
    joints: dict[str, Point]
    bands: slice

    @property
    def skin(self) -> np.ndarray:
        """Reflectance of the skin, (C,)."""
        return self.person.head.skin.bands[self.bands]

    @property
    def bend(self) -> float:
        """How far rings around the body sag in the picture, as a share of their radius."""
        return math.sin(self.view.pitch)

    @property
    def texels(self) -> float:
        """Rows of a cloth in a pixel."""
        return TEXELS / self.view.scale

    def limb(self, start: Point, end: Point, radii: list[float], cloth: np.ndarray, **how: float) -> None:
        """Paints a tube between two points; radii in body heights, `how` as Canvas.tube has it."""
        a, b = self.view.project(start), self.view.project(end)
        pixels = self.view.zoom(0.5 * (start[1] + end[1]))
        self.canvas.tube(
            a, b, [r * pixels for r in radii], cloth, turn=-self.view.yaw, texels=self.texels,
            bend=self.bend, **how,
        )  # fmt: skip
