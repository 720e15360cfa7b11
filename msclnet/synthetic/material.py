"""What things are made of: a visible colour and, apart from it, a near-infrared reflectance.

A dye hardly absorbs near infrared, so the brightness of a cloth there says little about its hue and more about
its fibre. The reflectance is therefore drawn from the fabric, with a pull towards the visible lightness.
"""

import colorsys
from dataclasses import dataclass
from typing import Literal

import numpy as np

from msclnet.datasets.records import Modality

Fabric = Literal["cotton", "wool", "synthetic", "denim", "leather"]
FABRICS: tuple[Fabric, ...] = ("cotton", "wool", "synthetic", "denim", "leather")

BANDS: dict[Modality, slice] = {"visible": slice(0, 3), "infrared": slice(3, 4)}

# mean and spread of the near-infrared reflectance
FABRIC_REFLECTANCE: dict[Fabric, tuple[float, float]] = {
    "cotton": (0.6, 0.13),
    "wool": (0.48, 0.13),
    "synthetic": (0.46, 0.17),
    "denim": (0.54, 0.1),
    "leather": (0.28, 0.1),
}
LIGHTNESS_PULL = 0.7
SAME_POLARITY = 0.9  # how often marks that are lighter than their ground stay so in near infrared
ACHROMATIC_SHARE = 0.3


@dataclass(frozen=True)
class Material:
    """A surface: red, green, blue and near-infrared reflectance, each in 0..1."""

    red: float
    green: float
    blue: float
    infrared: float

    @property
    def bands(self) -> np.ndarray:
        """The four reflectances, (4,) float32."""
        return np.array([self.red, self.green, self.blue, self.infrared], np.float32)

    @property
    def lightness(self) -> float:
        """Luma of the visible colour, 0..1."""
        return 0.299 * self.red + 0.587 * self.green + 0.114 * self.blue

    @property
    def hue(self) -> float:
        """Hue of the visible colour, 0..1 (0 for greys)."""
        return colorsys.rgb_to_hsv(self.red, self.green, self.blue)[0]


def draw_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draws a clothing colour: a hue in most cases, a grey (black and white among them) in the others."""
    if rng.random() < ACHROMATIC_SHARE:
        value = float(rng.choice([rng.uniform(0.06, 0.2), rng.uniform(0.3, 0.65), rng.uniform(0.8, 0.95)]))
        return value, value * float(rng.uniform(0.95, 1.0)), value * float(rng.uniform(0.9, 1.02))
    saturation = float(rng.uniform(0.35, 0.85))
    value = float(rng.uniform(0.28, 0.92))
    return colorsys.hsv_to_rgb(float(rng.random()), saturation, value)


def draw_cloth(rng: np.random.Generator, fabric: Fabric) -> Material:
    """Draws a cloth of the given fabric; its near-infrared reflectance does not know the hue."""
    red, green, blue = (min(1.0, band) for band in draw_colour(rng))
    mean, spread = FABRIC_REFLECTANCE[fabric]
    middle = 0.5 * (max(red, green, blue) + min(red, green, blue))  # a lightness that no hue has more of
    infrared = rng.normal(mean, spread) + LIGHTNESS_PULL * (middle - 0.4)
    return Material(red, green, blue, float(np.clip(infrared, 0.08, 0.95)))


def draw_mark(rng: np.random.Generator, ground: Material, *, vanishing: float) -> Material:
    """Draws the material of a pattern's marks on a ground.

    Args:
        rng: Source of randomness.
        ground: What the marks lie on; their visible colour is clearly different from it.
        vanishing: Probability that the marks can hardly be seen in near infrared. Otherwise they are mostly
            lighter there if they are so in visible light, for dark pigments absorb both; dyes may invert it.

    Returns:
        The material of the marks.
    """
    best = draw_colour(rng)
    for _ in range(12):
        if max(abs(a - b) for a, b in zip(best, (ground.red, ground.green, ground.blue), strict=True)) > 0.4:
            break
        best = draw_colour(rng)
    if rng.random() < vanishing:
        infrared = ground.infrared + rng.uniform(-0.05, 0.05)
    else:
        contrast = rng.uniform(0.35, 0.6)
        lighter = Material(*best, 0.0).lightness > ground.lightness
        brighter = lighter == (rng.random() < SAME_POLARITY)
        infrared = ground.infrared + (contrast if brighter else -contrast)
    red, green, blue = (min(1.0, band) for band in best)
    return Material(red, green, blue, float(np.clip(infrared, 0.05, 0.97)))
