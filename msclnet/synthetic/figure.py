"""Paints a whole person, part by part, from the farthest to the nearest."""

from msclnet.synthetic.head import paint_head, paint_tail
from msclnet.synthetic.limbs import arm_parts, leg_parts
from msclnet.synthetic.luggage import luggage_parts
from msclnet.synthetic.subject import Part, Subject
from msclnet.synthetic.trunk import trunk_parts


def _head_parts(subject: Subject) -> list[Part]:
    x, y, z = subject.joints["head"]
    behind = subject.view.project((x, y, z - 0.07))[2]
    return [(0.05, lambda: paint_head(subject)), (behind, lambda: paint_tail(subject))]


def paint_figure(subject: Subject) -> None:
    """Paints a person with all they wear and carry."""
    parts = [
        *leg_parts(subject),
        *trunk_parts(subject),
        *arm_parts(subject),
        *_head_parts(subject),
        *luggage_parts(subject),
    ]
    for _, painter in sorted(parts, key=lambda part: part[0]):
        painter()
