"""Paints arms and legs, bare and dressed."""

from msclnet.synthetic.body import Point
from msclnet.synthetic.subject import Part, Subject
from msclnet.synthetic.texture import TEXELS


def _between(a: Point, b: Point, share: float) -> Point:
    return (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]), a[2] + share * (b[2] - a[2]))


def _leg(subject: Subject, side: str) -> None:
    outfit, limb, leg = subject.person.outfit, subject.person.body.limb, subject.wardrobe.leg
    hip, knee, ankle, toe = (subject.joints[f"{joint}_{side}"] for joint in ("hip", "knee", "ankle", "toe"))
    thigh_r, knee_r, calf_r, ankle_r = (r * limb for r in (0.054, 0.038, 0.036, 0.021))
    bare = outfit.lower == "skirt" or outfit.lower_length < 0.9
    if bare:
        subject.limb(hip, knee, [thigh_r, knee_r], subject.skin)
        subject.limb(knee, ankle, [knee_r * 0.95, calf_r, ankle_r], subject.skin)
    shoe = outfit.shoe.bands[subject.bands]
    sole = outfit.sole.bands[subject.bands]
    heel = (ankle[0], ankle[1] + 0.012, ankle[2] - 0.022)
    low = (heel[0], heel[1] + 0.008, heel[2])
    low_toe = (toe[0], toe[1] + 0.008, toe[2])
    subject.limb(low, low_toe, [0.024, 0.025, 0.021], sole)
    subject.limb(heel, toe, [0.024, 0.025, 0.02], shoe, gloss=0.12)
    if outfit.boot:
        subject.limb(
            _between(ankle, knee, outfit.boot / 0.22), ankle, [0.031 * limb, 0.026], shoe, round_start=0.0
        )
    if outfit.lower == "skirt":
        return
    ease, covered = outfit.lower_ease, outfit.lower_length
    cut = outfit.lower == "shorts"
    if covered > 0.5:
        end = _between(knee, ankle, min(1.0, (covered - 0.5) * 2))
        reach = subject.person.body.leg * 0.51 * TEXELS
        cuff = max(ankle_r * 1.2, (ankle_r + 0.01) * ease**1.5)
        subject.limb(knee, end, [knee_r * ease, max(calf_r, cuff * 0.97) * ease**0.5, cuff], leg,
                   offset=reach, round_end=0.0)  # fmt: skip
    end = _between(hip, knee, min(1.0, covered * 2))
    last = knee_r * ease * (1.25 if cut else 1.0)
    subject.limb(
        hip,
        end,
        [thigh_r * ease**0.4, 0.5 * (thigh_r * ease**0.4 + last), last],
        leg,
        round_end=float(not cut),
    )


def leg_parts(subject: Subject) -> list[Part]:
    """Lists both legs, each with its nearness to the camera and its painter."""
    parts: list[Part] = []
    for side in ("l", "r"):
        near = subject.view.project(subject.joints[f"knee_{side}"])[2]
        parts.append((-0.02 + 0.3 * max(-0.1, min(0.1, near)), lambda side=side: _leg(subject, side)))
    return parts


def _arm(subject: Subject, side: str) -> None:
    outfit, limb, sleeve = subject.person.outfit, subject.person.body.limb, subject.wardrobe.sleeve
    shoulder, elbow, wrist = (subject.joints[f"{joint}_{side}"] for joint in ("shoulder", "elbow", "wrist"))
    top, middle, low = 0.033 * limb, 0.027 * limb, 0.019 * limb
    ease, covered = outfit.ease**1.3, outfit.sleeve
    hand = _between(elbow, wrist, 1.18)
    subject.limb(wrist, hand, [0.018, 0.02, 0.015], subject.skin)
    if covered < 0.9:
        subject.limb(shoulder, elbow, [top, middle], subject.skin)
        subject.limb(elbow, wrist, [middle, low], subject.skin)
    if covered > 0.5:
        end = _between(elbow, wrist, min(1.0, (covered - 0.5) * 2))
        subject.limb(
            elbow,
            end,
            [middle * ease, (low + 0.004) * ease],
            sleeve,
            offset=0.165 * TEXELS,
            round_end=0.0,
        )
    if covered > 0:
        end = _between(shoulder, elbow, min(1.0, covered * 2))
        subject.limb(shoulder, end, [top * ease, (middle + (0.005 if covered < 0.5 else 0)) * ease], sleeve,
                   round_end=float(covered >= 0.5))  # fmt: skip


def arm_parts(subject: Subject) -> list[Part]:
    """Lists both arms, each with its nearness to the camera and its painter."""
    parts: list[Part] = []
    for side in ("l", "r"):
        elbow, wrist = (
            subject.view.project(subject.joints[f"{joint}_{side}"])[2] for joint in ("elbow", "wrist")
        )
        parts.append((0.5 * (elbow + wrist) + 0.035, lambda side=side: _arm(subject, side)))
    return parts
