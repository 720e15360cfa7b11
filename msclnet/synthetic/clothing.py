"""What a person wears: garments with their cut, their cloth and their pattern."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from msclnet.synthetic.material import FABRICS, Fabric, Material, draw_cloth, draw_mark
from msclnet.synthetic.texture import PATTERNS, PRINTED, TEXELS, Pattern, pattern_field, rows_of, weave

Upper = Literal["tshirt", "shirt", "jacket", "hoodie", "coat", "vest", "dress"]
Lower = Literal["trousers", "shorts", "skirt"]

MARK_WIDTH = (0.045, 0.12)  # body heights: 12 to 32 pixels where a body is 270 pixels high
VANISHING_PRINT, VANISHING_WEAVE = 0.08, 0.04  # share of patterns that near infrared hardly shows


@dataclass(frozen=True)
class Cloth:
    """A fabric with a pattern.

    Attributes:
        fabric: Fibre, which sets the reflectance in near infrared.
        ground: Material between the marks.
        mark: Material of the marks.
        pattern: What the marks look like.
        width: Width of a mark in body heights.
        shift: Where the pattern starts, in 0..1.
        seed: For irregular patterns.
    """

    fabric: Fabric
    ground: Material
    mark: Material
    pattern: Pattern
    width: float
    shift: float
    seed: int

    def cut(self, length: float, around: float) -> np.ndarray:
        """Cuts a piece `length` long to go `around` a tube (body heights): (4, rows, columns) float32."""
        field = pattern_field(
            self.pattern, rows=rows_of(length), columns=rows_of(around), width=self.width * TEXELS,
            shift=self.shift, seed=self.seed,
        )  # fmt: skip
        return weave(self.ground, self.mark, field)


@dataclass(frozen=True)
class Outfit:
    """All of a person's garments; lengths in body heights, widths as a factor on the body's.

    Attributes:
        upper: Kind of the upper garment.
        cloth: Its cloth.
        trim: Cloth of the sleeves, plain or like the trunk's.
        inner: What shows in an open jacket and at the collar.
        detail: Material of buttons, zip and pocket edges.
        sleeve: Covered share of the arm.
        hem: Where the upper garment ends, from the crown.
        ease: How loosely it sits.
        flare: How much wider it is at the hem.
        lower: Kind of the lower garment.
        lower_cloth: Its cloth.
        lower_length: Covered share of the leg.
        lower_ease: How loosely it sits.
        shoe: Material of the shoes.
        sole: Material of the soles.
        boot: Height of the shoe's shaft.
    """

    upper: Upper
    cloth: Cloth
    trim: Cloth
    inner: Material
    detail: Material
    sleeve: float
    hem: float
    ease: float
    flare: float
    lower: Lower
    lower_cloth: Cloth
    lower_length: float
    lower_ease: float
    shoe: Material
    sole: Material
    boot: float


def draw_fabric_with_pattern(
    rng: np.random.Generator, fabric: Fabric, patterns: dict[Pattern, float]
) -> Cloth:
    """Draws a cloth; `patterns` weighs what may be on it."""
    weights = np.array(list(patterns.values()))
    pattern: Pattern = list(patterns)[rng.choice(len(weights), p=weights / weights.sum())]
    ground = draw_cloth(rng, fabric)
    return Cloth(
        fabric=fabric,
        ground=ground,
        mark=draw_mark(rng, ground, vanishing=VANISHING_PRINT if pattern in PRINTED else VANISHING_WEAVE),
        pattern=pattern,
        width=float(rng.uniform(*MARK_WIDTH)),
        shift=float(rng.random()),
        seed=int(rng.integers(1 << 30)),
    )


def draw_outfit(rng: np.random.Generator, hip_y: float) -> Outfit:
    """Draws what a person wears whose hips are at hip_y."""
    kinds: tuple[Upper, ...] = ("tshirt", "shirt", "jacket", "hoodie", "coat", "vest", "dress")
    upper = kinds[rng.choice(7, p=[0.24, 0.16, 0.18, 0.14, 0.1, 0.06, 0.12])]
    fabric: Fabric = FABRICS[rng.choice(5, p=[0.42, 0.16, 0.26, 0.1, 0.06])]
    cloth = draw_fabric_with_pattern(rng, fabric, {p: 0.7 if p == "plain" else 1.0 for p in PATTERNS})
    trim = cloth
    if rng.random() < 0.55:  # sleeves of another colour
        trim = draw_fabric_with_pattern(rng, fabric, {"plain": 3.0, "bands": 1.0})
    sleeve = {"tshirt": rng.uniform(0.25, 0.42), "shirt": rng.choice([0.38, 0.72, 0.97]), "vest": 0.0,
              "dress": rng.choice([0.0, 0.3, 0.95])}.get(upper, 0.98)  # fmt: skip
    hem = {"coat": rng.uniform(0.62, 0.75), "dress": rng.uniform(0.62, 0.8)}.get(
        upper, hip_y + rng.uniform(-0.015, 0.06)
    )
    ease = {"tshirt": rng.uniform(1.0, 1.12), "hoodie": rng.uniform(1.12, 1.28), "coat": rng.uniform(1.1, 1.25),
            "jacket": rng.uniform(1.08, 1.25)}.get(upper, rng.uniform(1.0, 1.15))  # fmt: skip
    cuts: tuple[Lower, ...] = ("trousers", "shorts", "skirt")
    lower = cuts[rng.choice(3, p=[0.54, 0.25, 0.21])]
    lower_fabric: Fabric = FABRICS[rng.choice(5, p=[0.3, 0.1, 0.2, 0.34, 0.06])]
    lower_patterns: dict[Pattern, float] = {"plain": 1.5, "side_stripe": 1.5, "plaid": 0.8, "pinstripes": 0.8,
                                            "camouflage": 0.8, "bands": 0.6, "dots": 0.4, "blocks": 0.8}  # fmt: skip
    lower_length = {"trousers": rng.choice([0.86, 0.97, 1.0]), "shorts": rng.uniform(0.32, 0.55)}.get(
        lower, rng.uniform(0.35, 0.75)
    )
    if upper == "dress":
        lower, lower_length = "trousers", float(rng.choice([0.02, 0.95]))
    return Outfit(
        upper=upper,
        cloth=cloth,
        trim=trim,
        inner=draw_cloth(rng, "cotton"),
        detail=draw_mark(rng, cloth.ground, vanishing=VANISHING_WEAVE),
        sleeve=float(sleeve),
        hem=float(hem),
        ease=float(ease),
        flare=float(rng.uniform(1.0, 1.15) if upper != "dress" else rng.uniform(1.1, 1.6)),
        lower=lower,
        lower_cloth=draw_fabric_with_pattern(rng, lower_fabric, lower_patterns),
        lower_length=float(lower_length),
        lower_ease=float(rng.choice([1.02, 1.2, 1.45]) * rng.uniform(0.96, 1.05)),
        shoe=draw_cloth(rng, FABRICS[rng.choice([2, 4])]),
        sole=draw_mark(rng, draw_cloth(rng, "synthetic"), vanishing=VANISHING_WEAVE),
        boot=float(rng.choice([0.0, 0.0, 0.04, 0.13])),
    )
