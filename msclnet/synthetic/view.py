"""From points of a person to points of a picture: where the camera stands."""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from msclnet.synthetic.body import Point

Height = TypeVar("Height", float, np.ndarray)


@dataclass(frozen=True)
class View:
    """Where the camera stands. Yaw 0 sees the front, pi / 2 a person walking to the right.

    Attributes:
        yaw: Turn of the person in radians.
        pitch: How far the camera looks down, in radians.
        scale: Pixels in a body height.
        centre: Column of the body's axis.
        top: Row of the crown.
        taper: How much wider the crown is drawn than the soles, as a share.
        roll: Tilt of the picture: columns for each row.
    """

    yaw: float
    pitch: float
    scale: float
    centre: float
    top: float
    taper: float
    roll: float

    def zoom(self, y: Height) -> Height:
        """Pixels in a body height at height y."""
        return self.scale * (1.0 + self.taper * (0.5 - y))

    def project(self, point: Point) -> Point:
        """Column, row and nearness (in body heights) of a point of the person."""
        x, y, z = point
        near = z * math.cos(self.yaw) - x * math.sin(self.yaw)
        across = x * math.cos(self.yaw) + z * math.sin(self.yaw)
        row = self.top + self.scale * (y + math.sin(self.pitch) * near)
        column = self.centre + self.zoom(y) * across + self.roll * (row - self.top)
        return column, row, near

    def half_width(self, wide: float, deep: float, y: float) -> float:
        """Half the width in pixels of a body part with an elliptic section at height y."""
        return self.zoom(y) * math.hypot(wide * math.cos(self.yaw), deep * math.sin(self.yaw))
