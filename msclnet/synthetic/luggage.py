"""Paints what a person carries: backpack, bag, scarf."""

import math

from msclnet.synthetic.body import NECK_Y
from msclnet.synthetic.subject import Part, Subject


def luggage_parts(subject: Subject) -> list[Part]:
    """Lists what is carried, each with its nearness to the camera and its painter."""
    canvas, view, wardrobe, joints = subject.canvas, subject.view, subject.wardrobe, subject.joints
    body, carried = subject.person.body, subject.person.accessories
    texels, bend = subject.texels, subject.bend
    parts: list[Part] = []
    neck = joints["neck"]

    if wardrobe.backpack is not None:
        pack, size = wardrobe.backpack, carried.backpack_size
        back = neck[2] - body.depth * body.shoulder - 0.045 * size
        top, low = (0, 0.215, back), (0, 0.215 + 0.2 * size, back - 0.01)

        def backpack() -> None:
            wide = view.half_width(0.088 * size, 0.055 * size, 0.3)
            radii = [wide * 0.82, wide, wide, wide * 0.95]
            canvas.tube(view.project(top), view.project(low), radii, pack, turn=math.pi - view.yaw, texels=texels,
                        round_start=0.5, round_end=0.3, bend=bend, gloss=0.08)  # fmt: skip

        parts.append((view.project((0, 0.3, back))[2] * 0.8 + 0.024, backpack))

    if wardrobe.handbag is not None:
        bag, size = wardrobe.handbag, carried.handbag_size
        side = 1.0 if carried.handbag_side == "l" else -1.0
        if carried.strap is None:
            grip = joints[f"wrist_{carried.handbag_side}"]
            place = (grip[0] + 0.01 * side, grip[1] + 0.05, grip[2])
        else:
            place = (-side * (body.hip + 0.035), body.hip_y - 0.05, 0.02)  # the strap crosses the chest

        def handbag() -> None:
            x, y, _ = view.project(place)
            px = view.zoom(place[1])
            wide = view.half_width(0.035 * size, 0.062 * size, place[1])
            if carried.strap is None:
                dark = bag.mean(axis=(0, 1)) * 0.55
                grip_x, grip_y, _ = view.project(joints[f"wrist_{carried.handbag_side}"])
                for end in (-0.6, 0.6):
                    canvas.tube(
                        (grip_x, grip_y + 0.02 * px), (x + end * wide, y + 0.035 * px), [1.2, 1.2], dark
                    )
            canvas.tube((x, y + 0.045 * px), (x, y + (0.045 + 0.075 * size) * px), [wide * 0.85, wide, wide], bag,
                        turn=-view.yaw, texels=texels, round_start=0.3, round_end=0.3, bend=bend,
                        gloss=0.12)  # fmt: skip

        parts.append((view.project(place)[2] + 0.045, handbag))

    if wardrobe.scarf is not None:
        scarf = wardrobe.scarf

        def wrapped() -> None:
            thick = view.half_width(0.062, 0.055, NECK_Y)
            a = view.project((0, neck[1] - 0.012, neck[2]))
            b = view.project((0, neck[1] + 0.022, neck[2]))
            canvas.tube(
                a, b, [thick * 0.85, thick, thick * 0.9], scarf, turn=-view.yaw, texels=texels, bend=bend
            )
            end = view.project((0.03, 0.33, neck[2] + body.depth * body.shoulder + 0.005))
            if end[2] > 0:
                canvas.tube(
                    (end[0], b[1]), end[:2], [0.02 * view.scale] * 2, scarf, texels=texels, round_end=0.0
                )

        parts.append((0.048, wrapped))
    return parts
