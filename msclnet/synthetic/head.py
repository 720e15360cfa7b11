"""Paints a head from any side: hair, face, glasses, hat.

Every pixel of the head knows its longitude (0 at the face) and latitude, so that a turn of the head moves everything.
"""

import math

import numpy as np

from msclnet.synthetic.canvas import MESH_X, MESH_Y
from msclnet.synthetic.identity import Head
from msclnet.synthetic.subject import Subject

WIDE, DEEP = 0.76, 0.92  # half width and half depth of a head, in its half height


def _line(longitude: np.ndarray, head: Head) -> np.ndarray:
    """Latitude (-1 crown, 1 chin) down to which hair grows, by longitude."""
    around = np.abs(longitude)
    behind = np.clip((around - 1.0) / 0.45, 0, 1)
    if head.style == "bald":
        return np.full_like(around, -2.0) + 2.2 * behind * (around > 1.2)
    low = {"short": 0.4, "curly": 0.65, "bob": 1.2, "long": 1.2}.get(head.style, 0.5)
    fringe = -head.hairline - 0.18 * np.cos(around * 2)
    return fringe + (low - fringe) * behind


def paint_head(subject: Subject) -> None:
    """Paints the head with its hair, glasses and hat."""
    canvas, view, person, bands = subject.canvas, subject.view, subject.person, subject.bands
    centre = subject.joints["head"]
    head, size = person.head, person.body.head
    cx, cy, _ = view.project(centre)
    half_w = view.half_width(WIDE * size, DEEP * size, centre[1])
    half_h = view.scale * size
    volume = 1.4 if head.style == "curly" else head.volume
    reach = 1.5 * max(half_w, half_h)
    window = canvas.window(cx - reach, cy - reach, cx + reach, cy + reach)
    if window is None:
        return
    p = (MESH_X[window] - cx) / half_w
    q = (MESH_Y[window] - cy) / half_h
    edge = min(half_w, half_h)
    radius = np.hypot(p * (1 + 0.13 * np.clip(q, 0, 1)), q)
    inside = np.clip((1 - radius) * edge + 0.5, 0, 1)
    nz = np.sqrt(np.clip(1 - p * p - 0.8 * q * q, 0, 1))
    longitude = np.arctan2(np.clip(p, -1, 1), nz) - view.yaw
    longitude = (longitude + math.pi) % (2 * math.pi) - math.pi
    light = canvas.light
    lit = np.maximum(p * light.x + q * light.y + nz * light.z, 0)
    shade = light.ambient * (0.65 + 0.35 * nz) + light.direct * lit

    skin, hair, hat = (m.bands[bands] for m in (head.skin, head.hair, head.hat_material))
    face = np.ones_like(p)[None] * skin[:, None, None]

    def mark(distance: np.ndarray, colour: np.ndarray, share: float = 1.0) -> None:
        cover = np.clip(-distance * edge + 0.5, 0, share)
        np.add(face, cover * (colour[:, None, None] - face), out=face)

    side = np.abs(longitude)
    dark = np.minimum(hair, 0.3) * 0.6
    mark(np.hypot((side - 0.42) / 1.5, q + 0.05) - 0.075, skin * 0.12)
    mark(np.maximum(np.abs(side - 0.42) - 0.22, np.abs(q + 0.24) - 0.035), dark, 0.8)
    mark(np.maximum(side - 0.07, np.abs(q - 0.1) - 0.16), skin * 0.82, 0.6)
    mark(np.maximum(side - 0.26, np.abs(q - 0.47) - 0.035), skin * np.array([0.75, 0.5, 0.5, 0.7])[bands])
    if head.beard:
        mark(np.maximum(0.3 + 0.1 * side - q, side - 1.5), hair, 0.85)
        mark(np.maximum(np.abs(q - 0.47) - 0.03, side - 0.2), skin * 0.6)
    if head.glasses:
        ring = np.abs(np.hypot((side - 0.42) / 1.2, q + 0.05) - 0.23) - 0.05
        bridge = np.maximum(np.abs(q + 0.08) - 0.04, np.abs(side - 0.85) - 0.75)
        mark(np.minimum(ring, np.maximum(bridge, 0.2 - np.abs(side - 0.42))), np.full(len(skin), 0.05))

    canvas.blend(window, inside, face * shade)
    line = _line(longitude, head)
    mane = np.clip((volume - np.hypot(p, q + 0.05)) * edge + 0.5, 0, 1)
    mane *= np.clip((line - q) * edge + 0.5, 0, 1)
    strands = 1 + 0.1 * np.sin(longitude * 23 + 3 * q)
    canvas.blend(window, mane, hair[:, None, None] * (shade * strands))
    if head.hat == "none":
        return
    crown = {"cap": 1.12, "beanie": 1.22, "brim": 1.15}[head.hat]
    cover = np.clip((crown * max(1.0, volume * 0.92) - np.hypot(p, q + 0.06)) * edge + 0.5, 0, 1)
    cover *= np.clip((-0.32 - 0.1 * np.cos(longitude) - q) * edge + 0.5, 0, 1)
    knit = 1 - 0.18 * (np.abs(q + 0.45) < 0.06) if head.hat != "cap" else 1.0
    canvas.blend(window, cover, hat[:, None, None] * (shade * knit))
    if head.hat == "cap":
        ahead = math.cos(view.yaw)
        x = cx + half_w * 1.0 * math.sin(view.yaw)
        if ahead > -0.5:
            canvas.disc(x, cy - 0.38 * half_h, half_w * (0.62 + 0.25 * ahead), half_h * (0.1 + 0.08 * max(ahead, 0)),
                        hat * 0.6 * (light.ambient + 0.5 * light.direct))  # fmt: skip
    elif head.hat == "brim":
        canvas.disc(cx, cy - 0.36 * half_h, half_w * 1.75, half_h * 0.17,
                    hat * 0.75 * (light.ambient + 0.5 * light.direct))  # fmt: skip


def paint_tail(subject: Subject) -> None:
    """Paints the hair that leaves the head: long hair, a ponytail, a bun."""
    canvas, view, person, bands = subject.canvas, subject.view, subject.person, subject.bands
    centre = subject.joints["head"]
    head, size = person.head, person.body.head
    hair = head.hair.bands[bands]
    x, y, z = centre
    px = view.zoom(y)
    if head.style in ("bob", "long"):
        length = 1.15 if head.style == "bob" else head.length
        top = view.project((x, y - 0.1 * size, z - 0.25 * size))
        tip = view.project((x, y + length * size, z - 0.5 * size - 0.01 * length))
        wide = view.half_width(0.95 * size, 0.6 * size, y)
        canvas.tube(top, tip, [wide * 0.9, wide * head.volume, wide * 0.95, wide * 0.7], hair, gloss=0.15)
    elif head.style == "ponytail":
        top = view.project((x, y - 0.35 * size, z - 0.95 * size))
        tip = view.project((x, y + 0.8 * head.length * size, z - 1.15 * size))
        canvas.tube(top, tip, [0.2 * size * px, 0.32 * size * px, 0.26 * size * px, 0.1 * size * px], hair)
    elif head.style == "bun":
        top = view.project((x, y - 0.75 * size, z - 0.75 * size))
        knot = (top[0], top[1] + 1.0)
        canvas.tube(top, knot, [0.42 * size * px, 0.42 * size * px], hair, gloss=0.15)
