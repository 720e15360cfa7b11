"""Paints the trunk and what hangs from it: shirts, coats, skirts."""

import math

import numpy as np

from msclnet.synthetic.body import CROTCH_SLACK, NECK_Y, SHOULDER_Y
from msclnet.synthetic.subject import Part, Subject

TRUNK_STEPS = 16  # heights at which the width of the trunk is worked out


def _half_widths(subject: Subject, heights: np.ndarray) -> np.ndarray:
    """Half the width of the bare trunk in pixels at some heights."""
    body, view = subject.person.body, subject.view
    shoulder = body.shoulder
    known = (NECK_Y, 0.163, SHOULDER_Y, 0.21, 0.28, body.hip_y - 0.1, body.hip_y, 1.0)
    wide = np.interp(heights, known, (0.42 * shoulder, 0.62 * shoulder, 0.88 * shoulder, 0.95 * shoulder,
                                      0.9 * shoulder, body.waist, body.hip, body.hip))  # fmt: skip
    deep = np.interp(heights, known, (0.35 * shoulder, 0.42 * shoulder, 0.5 * shoulder, 0.58 * shoulder,
                                      body.depth * shoulder, body.depth * 1.1 * body.waist,
                                      body.depth * 1.05 * body.hip, body.depth * body.hip))  # fmt: skip
    return view.zoom(heights) * np.hypot(wide * math.cos(view.yaw), deep * math.sin(view.yaw))


def _hang(subject: Subject, top: float, hem: float, cloth: np.ndarray, *, ease: float, flare: float) -> None:
    """Cloth around the trunk from one height to another, wider below the hips."""
    neck, pelvis = subject.joints["neck"], subject.joints["pelvis"]
    hip_y = subject.person.body.hip_y
    drop = pelvis[1] - hip_y
    per_y = (pelvis[2] - neck[2]) / (pelvis[1] - neck[1])
    heights = np.linspace(top, hem, TRUNK_STEPS)
    below = np.clip((heights - hip_y + 0.08) / max(0.08, hem - hip_y + 0.08), 0, 1)
    loose = 1 + (ease - 1) * np.minimum(1.0, (heights - top) * 12)
    radii = (_half_widths(subject, heights) * loose * (1 + (flare - 1) * below)).tolist()
    start = subject.view.project((0, top + drop, neck[2] + per_y * (top - NECK_Y)))
    end = subject.view.project((0, hem + drop, pelvis[2] + per_y * min(0.0, hem - hip_y)))
    subject.canvas.tube(
        start, end, radii, cloth, turn=-subject.view.yaw, texels=subject.texels, round_end=0.0, bend=subject.bend,
    )  # fmt: skip


def trunk_parts(subject: Subject) -> list[Part]:
    """Lists neck, lower and upper garment, each with its nearness to the camera and its painter."""
    outfit, body = subject.person.outfit, subject.person.body
    neck = subject.joints["neck"]
    low = (neck[0], neck[1] + 0.03, neck[2])
    chin = subject.joints["head"]
    thick = 0.031 * (0.5 + 0.5 * body.limb)
    waist, skirt_hem = body.hip_y - 0.07, body.hip_y + outfit.lower_length * body.leg

    def throat() -> None:
        subject.limb(chin, low, [thick, thick * 1.05], subject.skin * 0.88)

    def skirt() -> None:
        flare = 0.8 + 0.4 * outfit.lower_ease
        _hang(subject, waist, skirt_hem, subject.wardrobe.waist, ease=1.06, flare=flare)

    def seat() -> None:
        crotch = body.hip_y + CROTCH_SLACK
        _hang(subject, waist, crotch, subject.wardrobe.waist, ease=1.04, flare=1.0)

    def upper() -> None:
        _hang(subject, NECK_Y, outfit.hem, subject.wardrobe.trunk, ease=outfit.ease, flare=outfit.flare)

    parts: list[Part] = [(0.015, throat), (0.02, upper)]
    if outfit.lower == "skirt":
        parts.append((0.016, skirt))
    elif outfit.upper != "dress":
        parts.append((0.012, seat))
    return parts
