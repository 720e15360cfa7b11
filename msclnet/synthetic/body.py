"""Build, gait and posture of a person: a small skeleton in three dimensions.

Axes of a person, in body heights: x to the person's left, y down from the crown (0) to the soles (1), z to the front.
"""

import math
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float, float]

CROTCH_SLACK = 0.02
SHOULDER_Y = 0.185
NECK_Y = 0.15


@dataclass(frozen=True)
class Body:
    """Proportions of a person, in body heights."""

    head: float
    shoulder: float
    waist: float
    hip: float
    depth: float
    limb: float
    leg: float
    arm: float

    @property
    def hip_y(self) -> float:
        """Height of the hip joints."""
        return 0.965 - self.leg


@dataclass(frozen=True)
class Gait:
    """How a person walks and stands; angles in radians."""

    stride: float
    swing: float
    elbow: float
    spread: float
    lean: float
    splay: float
    head_forward: float


def draw_body(rng: np.random.Generator) -> Body:
    """Draws the proportions of a person."""
    stout = float(rng.normal(0, 1))
    return Body(
        head=float(rng.uniform(0.062, 0.076)),
        shoulder=float(np.clip(rng.normal(0.112, 0.016) + 0.012 * stout, 0.08, 0.16)),
        waist=float(np.clip(rng.normal(0.085, 0.011) + 0.022 * stout, 0.056, 0.15)),
        hip=float(np.clip(rng.normal(0.092, 0.012) + 0.015 * stout, 0.066, 0.15)),
        depth=float(np.clip(rng.normal(0.66, 0.05) + 0.04 * stout, 0.55, 0.85)),
        limb=float(np.clip(rng.normal(1.0, 0.1) + 0.1 * stout, 0.74, 1.4)),
        leg=float(rng.uniform(0.41, 0.53)),
        arm=float(rng.uniform(0.93, 1.07)),
    )


def draw_gait(rng: np.random.Generator) -> Gait:
    """Draws how a person moves."""
    return Gait(
        stride=float(rng.uniform(0.2, 0.5)),
        swing=float(rng.uniform(0.1, 0.55)),
        elbow=float(rng.uniform(0.05, 0.6)),
        spread=float(rng.uniform(0.05, 0.22)),
        lean=float(rng.uniform(-0.03, 0.1)),
        splay=float(rng.uniform(0.0, 0.35)),
        head_forward=float(rng.uniform(0.0, 0.03)),
    )


def draw_posture(body: Body, gait: Gait, rng: np.random.Generator) -> dict[str, Point]:
    """Puts the person into one moment of walking or standing.

    Args:
        body: Proportions.
        gait: Habits; the moment varies around them.
        rng: Source of the moment.

    Returns:
        Joints by name; `_l` and `_r` are the person's left and right.
    """
    walking = rng.random() < 0.75
    phase = rng.uniform(0, 2 * math.pi)
    stride = gait.stride * (rng.uniform(0.8, 1.15) if walking else rng.uniform(0.0, 0.2))
    swing = gait.swing * (rng.uniform(0.7, 1.2) if walking else 0.15)
    raised = rng.random()  # now and then an arm holds a telephone or lies in front of the body
    joints: dict[str, Point] = {}
    hip_x = 0.52 * body.hip
    thigh, shin = 0.51 * body.leg, 0.49 * body.leg
    upper, fore = 0.168 * body.arm, 0.152 * body.arm
    for name, side in (("l", 1.0), ("r", -1.0)):
        turn = math.sin(phase) * side
        hip = (side * hip_x, body.hip_y, 0.0)
        forward = stride * turn
        bend = 0.06 + stride * (0.9 * max(0.0, math.cos(phase) * side) + 0.25 * max(0.0, -turn))
        knee = (hip[0] * 0.95, hip[1] + thigh * math.cos(forward), thigh * math.sin(forward))
        lower = forward - bend
        ankle = (hip[0] * 0.85, knee[1] + shin * math.cos(lower), knee[2] + shin * math.sin(lower))
        out = gait.splay * side
        pitch = 0.35 * max(0.0, -lower - 0.1)  # the heel of the rear foot lifts
        toe = (ankle[0] + 0.1 * math.sin(out), ankle[1] + 0.012 + 0.1 * math.sin(pitch),
               ankle[2] + 0.1 * math.cos(out))  # fmt: skip
        joints |= {f"hip_{name}": hip, f"knee_{name}": knee, f"ankle_{name}": ankle, f"toe_{name}": toe}

        forward = -swing * turn + 0.05
        spread = gait.spread + rng.uniform(-0.03, 0.06)
        flex = gait.elbow + 0.35 * max(0.0, forward) + rng.uniform(-0.05, 0.1)
        if (raised < 0.05 and side > 0) or raised > 0.95 - 0.03 * side:
            forward, flex, spread = 0.45, 2.2, 0.3
        elif 0.05 < raised < 0.11:
            forward, flex, spread = 0.1, 1.45, 0.2
        shoulder = (side * 0.88 * body.shoulder, SHOULDER_Y + 0.012, 0.0)
        elbow = (shoulder[0] + side * upper * math.sin(spread),
                 shoulder[1] + upper * math.cos(spread) * math.cos(forward),
                 upper * math.cos(spread) * math.sin(forward))  # fmt: skip
        lower = forward + flex
        inward = spread * (0.4 - 0.9 * min(1.0, flex / 1.5))
        wrist = (elbow[0] + side * fore * math.sin(inward),
                 elbow[1] + fore * math.cos(inward) * math.cos(lower),
                 elbow[2] + fore * math.cos(inward) * math.sin(lower))  # fmt: skip
        joints |= {f"shoulder_{name}": shoulder, f"elbow_{name}": elbow, f"wrist_{name}": wrist}

    joints["neck"] = (0.0, NECK_Y, 0.0)
    joints["pelvis"] = (0.0, body.hip_y, 0.0)
    joints["head"] = (0.0, 0.068, gait.head_forward)
    lean = gait.lean + rng.uniform(-0.02, 0.03)
    drop = 0.965 - max(joints["ankle_l"][1], joints["ankle_r"][1])
    for name, (x, y, z) in joints.items():
        above = max(0.0, body.hip_y - y)
        joints[name] = (x, y + drop, z + lean * above)
    return joints
