"""A person: everything that stays the same from camera to camera, drawn from a seed and a number."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from msclnet.synthetic.body import Body, Gait, draw_body, draw_gait
from msclnet.synthetic.clothing import Cloth, Outfit, draw_fabric_with_pattern, draw_outfit
from msclnet.synthetic.material import Material, draw_cloth
from msclnet.synthetic.texture import Pattern

HairStyle = Literal["bald", "short", "curly", "bob", "long", "ponytail", "bun"]
HAIR_STYLES: tuple[HairStyle, ...] = ("bald", "short", "curly", "bob", "long", "ponytail", "bun")
Hat = Literal["none", "cap", "beanie", "brim"]
HATS: tuple[Hat, ...] = ("none", "cap", "beanie", "brim")

# first word of each random stream: streams of different purpose never meet
PERSON_STREAM, TRACK_STREAM, IMAGE_STREAM, SCENE_STREAM, COUNT_STREAM = range(5)


@dataclass(frozen=True)
class Head:
    """Hair, face and what is worn there; lengths in head radii."""

    skin: Material
    hair: Material
    style: HairStyle
    hairline: float
    volume: float
    length: float
    beard: bool
    glasses: bool
    hat: Hat
    hat_material: Material


@dataclass(frozen=True)
class Accessories:
    """What a person carries; None where it is missing."""

    backpack: Cloth | None
    backpack_size: float
    handbag: Cloth | None
    handbag_size: float
    handbag_side: Literal["l", "r"]
    strap: Material | None
    scarf: Cloth | None


@dataclass(frozen=True)
class Person:
    """One identity."""

    body: Body
    gait: Gait
    head: Head
    outfit: Outfit
    accessories: Accessories


def _draw_head(rng: np.random.Generator) -> Head:
    tone = rng.uniform(0.0, 1.0)
    fair, dark = np.array([0.93, 0.74, 0.62]), np.array([0.42, 0.27, 0.18])
    red, green, blue = (float(band) for band in fair + (dark - fair) * tone**1.3)
    skin = Material(red, green, blue, float(rng.uniform(0.66, 0.8)))
    # Pigment of hair fades into the near infrared at a pace of its own: dark hair may be bright there.
    shade = rng.choice(5, p=[0.34, 0.26, 0.18, 0.1, 0.12])
    colour = [(0.08, 0.07, 0.07), (0.27, 0.16, 0.09), (0.72, 0.55, 0.3), (0.5, 0.22, 0.1), (0.7, 0.7, 0.7)][
        shade
    ]
    lightness = Material(*colour, 0.0).lightness
    hair = Material(*colour, float(rng.uniform(0.12, 0.42) + 0.45 * lightness))
    return Head(
        skin=skin,
        hair=hair,
        style=HAIR_STYLES[rng.choice(7, p=[0.07, 0.3, 0.1, 0.16, 0.18, 0.12, 0.07])],
        hairline=float(rng.uniform(0.3, 0.6)),
        volume=float(rng.uniform(1.04, 1.22)),
        length=float(rng.uniform(1.6, 3.6)),
        beard=bool(rng.random() < 0.15),
        glasses=bool(rng.random() < 0.3),
        hat=HATS[rng.choice(4, p=[0.46, 0.22, 0.17, 0.15])],
        hat_material=draw_cloth(rng, "wool"),
    )


def _draw_accessories(rng: np.random.Generator) -> Accessories:
    carried = rng.choice(4, p=[0.16, 0.32, 0.26, 0.26])
    bag_patterns: dict[Pattern, float] = {"plain": 3.0, "blocks": 1.0, "bands": 1.0, "checkers": 0.5}
    return Accessories(
        backpack=draw_fabric_with_pattern(rng, "synthetic", bag_patterns) if carried == 1 else None,
        backpack_size=float(rng.uniform(0.8, 1.2)),
        handbag=draw_fabric_with_pattern(rng, "leather", bag_patterns) if carried >= 2 else None,
        handbag_size=float(rng.uniform(0.75, 1.25)),
        handbag_side="l" if rng.random() < 0.5 else "r",
        strap=draw_cloth(rng, "leather") if carried == 3 else None,
        scarf=draw_fabric_with_pattern(rng, "wool", {"plain": 1.0, "bands": 1.0})
        if rng.random() < 0.35
        else None,
    )


def draw_person(seed: int, identity: int) -> Person:
    """Draws a person; the same seed and number give the same one, and no number depends on another.

    Args:
        seed: Seed of the data set, >= 0.
        identity: Number of the person, >= 0.

    Returns:
        All that identifies them.
    """
    rng = np.random.default_rng([PERSON_STREAM, seed, identity])
    body, gait = draw_body(rng), draw_gait(rng)
    head, outfit, accessories = _draw_head(rng), draw_outfit(rng, body.hip_y), _draw_accessories(rng)
    if outfit.lower == "skirt" or outfit.upper in ("dress", "coat"):  # they shorten the step
        gait = replace(gait, stride=0.55 * gait.stride)
    return Person(body, gait, head, outfit, accessories)
