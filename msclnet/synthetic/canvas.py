"""A picture under construction, and the one brush that paints bodies: a shaded, textured tube.

Axes: C bands (three visible ones or one in near infrared), H rows, W columns; pixels are float32 reflected light.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

STEPS = 3  # entries of a tube's table of widths per pixel along its axis
# A rounded end, from its tip: distance from where it starts and half width, as shares of length and radius.
CAP = tuple((k, math.sqrt(1 - k * k)) for k in (1.0, 0.99, 0.95, 0.87, 0.75, 0.55, 0.3))
MESH_Y, MESH_X = (np.ascontiguousarray(mesh, np.float32) for mesh in np.mgrid[0:512, 0:512])


@dataclass(frozen=True)
class Light:
    """Light that falls on the person: towards (x right, y down, z to the camera), its strength, the rest."""

    x: float
    y: float
    z: float
    direct: float
    ambient: float


class Canvas:
    """Pixels (C, H, W) with the light that falls on what is painted next.

    Args:
        pixels: The background, float32; painted over in place.
        light: Light on the person.
        folds: (H, W) float32 around 1: small unevenness of cloth and skin.
    """

    def __init__(self, pixels: np.ndarray, light: Light, folds: np.ndarray) -> None:
        self.pixels = pixels
        self.light = light
        self.folds = folds

    def window(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice] | None:
        """Rows and columns of a rectangle inside the picture, None where it lies outside."""
        _, height, width = self.pixels.shape
        x0, x1 = max(0, math.floor(left)), min(width, math.ceil(right) + 1)
        y0, y1 = max(0, math.floor(top)), min(height, math.ceil(bottom) + 1)
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None

    def blend(self, window: tuple[slice, slice], cover: np.ndarray, colour: np.ndarray) -> None:
        """Lays a colour (C, h, w) or (C, 1, 1) over a window, `cover` (h, w) in 0..1."""
        place = self.pixels[:, window[0], window[1]]
        place += cover * (colour - place)

    def disc(self, x: float, y: float, rx: float, ry: float, colour: np.ndarray) -> None:
        """Paints a flat ellipse."""
        window = self.window(x - rx - 1, y - ry - 1, x + rx + 1, y + ry + 1)
        if window is None or rx <= 0 or ry <= 0:
            return
        radius = np.hypot((MESH_X[window] - x) / rx, (MESH_Y[window] - y) / ry)
        self.blend(window, np.clip((1.0 - radius) * min(rx, ry) + 0.5, 0.0, 1.0), colour[:, None, None])

    def shadow(self, x: float, y: float, rx: float, ry: float, depth: float) -> None:
        """Darkens an ellipse of the ground, by the share `depth` in its middle and by nothing at its rim."""
        window = self.window(x - rx, y - ry, x + rx, y + ry)
        if window is not None:
            inside = 1.0 - ((MESH_X[window] - x) / rx) ** 2 - ((MESH_Y[window] - y) / ry) ** 2
            self.pixels[:, window[0], window[1]] *= 1.0 - depth * np.maximum(inside, 0)

    def tube(
        self,
        start: Sequence[float],
        end: Sequence[float],
        radii: Sequence[float],
        surface: np.ndarray,
        *,
        turn: float = 0.0,
        offset: float = 0.0,
        texels: float = 1.0,
        round_start: float = 1.0,
        round_end: float = 1.0,
        bend: float = 0.0,
        gloss: float = 0.0,
    ) -> None:
        """Paints a tube: a limb, a trunk, a bag.

        Args:
            start: Column and row where the axis begins.
            end: Column and row where it ends.
            radii: Half widths in pixels at equal steps along the axis.
            surface: (C,) one colour, or (rows, columns, C) a cloth once around the tube.
            turn: Azimuth of the cloth that faces the camera, radians; 0 is the cloth's middle column.
            offset: Row of the cloth at the start.
            texels: Rows of the cloth in a pixel along the axis.
            round_start: Length of the rounded start, as a share of the radius there; 0 cuts it off.
            round_end: The same at the end.
            bend: How far the rings of the tube sag, as a share of the radius: a camera from above sees that.
            gloss: Strength of a highlight.
        """
        start, end = (float(start[0]), float(start[1])), (float(end[0]), float(end[1]))
        # Plain numbers: a NumPy scalar would turn every array below into float64.
        radii = [float(radius) for radius in radii]
        light = self.light
        length = max(1.0, math.hypot(end[0] - start[0], end[1] - start[1]))
        ax, ay = (end[0] - start[0]) / length, (end[1] - start[1]) / length
        first = round_start * max(1.0, radii[0])
        last = round_end * max(1.0, radii[-1])
        widest = max(radii) + 1.5
        reach = abs(bend) * widest + 1.0
        window = self.window(
            min(start[0] - ax * first, end[0] + ax * last) - widest,
            min(start[1] - ay * first, end[1] + ay * last) - (widest if abs(ay) < 0.95 else reach + 2),
            max(start[0] - ax * first, end[0] + ax * last) + widest,
            max(start[1] - ay * first, end[1] + ay * last) + (widest if abs(ay) < 0.95 else reach + 2),
        )
        if window is None:
            return

        # Half width along the axis, negative where the tube has ended.
        body = np.linspace(0, length, len(radii)).tolist()
        knots = (
            [-first * k for k, _ in CAP] * (first > 0)
            + body
            + [length + last * k for k, _ in CAP[::-1]] * (last > 0)
        )
        sizes = (
            [radii[0] * r for _, r in CAP] * (first > 0)
            + radii
            + [radii[-1] * r for _, r in CAP[::-1]] * (last > 0)
        )
        along = np.arange(-first - 1, length + last + 1.5, 1.0 / STEPS)
        width = np.interp(along, knots, sizes, left=-2.0, right=-2.0).astype(np.float32)

        # Across the axis (d) and along it (t), in pixels.
        x = MESH_X[0, window[1]]
        y = MESH_Y[window[0], :1]
        d = (x * ay + (start[1] * ax - start[0] * ay)) - y * ax
        t = (x * ax - (start[0] * ax + start[1] * ay)) + y * ay
        if bend:
            t += (bend / widest) * (d * d)
            t -= 0.4 * bend * widest
        place = (t * STEPS + ((first + 1) * STEPS + 0.5)).astype(np.intp)
        r = width.take(place, mode="clip")
        cover = r + 0.5
        cover -= np.abs(d)
        np.minimum(np.maximum(cover, 0, out=cover), 1, out=cover)

        s = d / np.maximum(r, 0.5)
        np.minimum(np.maximum(s, -1, out=s), 1, out=s)
        s2 = s * s
        nz = np.sqrt(1.0 - s2)
        lit = s * (ay * light.x - ax * light.y)
        lit += nz * light.z
        np.maximum(lit, 0, out=lit)
        shade = nz * (0.38 * light.ambient) + lit * light.direct
        shade += 0.62 * light.ambient
        shade *= self.folds[window]
        if gloss:
            for _ in range(3):
                lit *= lit
            shade += gloss * lit

        if surface.ndim == 1:
            colour = surface[:, None, None] * shade
        else:
            rows, columns, _ = surface.shape
            u = s * (1.0 + 0.5708 * (s2 * s2))  # close to arcsin, and cheaper
            u *= columns / (2 * math.pi)
            u += turn * columns / (2 * math.pi) + (columns / 2 - 0.5)
            v = t * texels
            v += offset - 0.5
            np.minimum(np.maximum(v, 0, out=v), rows - 1, out=v)
            cloth = cv2.remap(surface, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
            colour = cloth.reshape(*u.shape, -1).transpose(2, 0, 1) * shade
        self.blend(window, cover, colour)
