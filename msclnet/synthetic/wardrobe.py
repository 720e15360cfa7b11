"""Cuts a person's cloth to the pieces that the brush wraps around the body, with collars, zips and straps on them."""

from dataclasses import dataclass

import numpy as np

from msclnet.synthetic.body import NECK_Y
from msclnet.synthetic.clothing import Cloth
from msclnet.synthetic.identity import Person
from msclnet.synthetic.texture import TEXELS

Texture = np.ndarray  # float32 (4, rows, columns) while it is cut, (rows, columns, C) when it is worn


@dataclass(frozen=True)
class Wardrobe:
    """Unrolled cloth of one person in some bands, (rows, columns, C) float32 each; None where there is none."""

    trunk: Texture
    sleeve: Texture
    leg: Texture
    waist: Texture
    backpack: Texture | None
    handbag: Texture | None
    scarf: Texture | None


def _paint(texture: Texture, cover: np.ndarray, bands: np.ndarray) -> None:
    cover = np.clip(cover, 0, 1)
    texture += cover * (bands[:, None, None] - texture)


def _trunk(person: Person) -> Texture:
    """The upper garment with what is on it: opening, collar, buttons, pocket, straps."""
    body, outfit, carried = person.body, person.outfit, person.accessories
    length = outfit.hem - NECK_Y
    trunk = outfit.cloth.cut(length, 2 * np.pi * 0.84 * body.shoulder).copy()
    _, rows, columns = trunk.shape
    y = np.arange(rows, dtype=np.float32)[:, None] + 0.5
    x = np.arange(columns, dtype=np.float32)[None, :] + 0.5 - columns / 2  # 0 at the middle of the front
    unit = TEXELS / 100  # a hundredth of a body height
    front = np.abs(x)
    inner, detail = outfit.inner.bands, outfit.detail.bands
    if outfit.upper in ("jacket", "coat") and outfit.cloth.shift < 0.65:
        opening = (1.6 + 3.0 * outfit.cloth.shift) * unit * (1.0 + 0.5 * y / rows)
        _paint(trunk, opening - front + 0.5, inner)
    elif outfit.upper in ("jacket", "coat", "hoodie"):
        _paint(trunk, 0.55 * unit - front + 0.5 + 0 * y, detail)
    if outfit.upper in ("shirt", "coat"):
        button = np.hypot(x, (y - 4 * unit) % (5.2 * unit) - 2.6 * unit)
        _paint(trunk, 0.75 * unit - button + 0.5, detail)
    if outfit.upper == "hoodie":
        inside = np.minimum(6.0 * unit - front, 4.2 * unit - np.abs(y - 27 * unit))
        _paint(trunk, 0.75 * unit - np.abs(inside), detail)
    if outfit.upper == "vest":
        _paint(trunk, 0.5 * unit - np.abs(y % (5 * unit) - 2.5 * unit) + 0.5 + 0 * x, detail)
    collar = {"tshirt": 4.6, "dress": 6.0, "shirt": 7.5, "jacket": 9.0, "coat": 8.0}.get(outfit.upper, 4.0)
    skin = person.head.skin.bands if outfit.upper not in ("jacket", "coat") else inner
    _paint(trunk, (collar * unit - y - front * 1.25) + 0.5, skin)
    if outfit.upper == "dress" and outfit.cloth.shift < 0.5:
        _paint(trunk, 0.9 * unit - np.abs(y - 25 * unit) + 0.5 + 0 * x, detail)
    if carried.backpack is not None:
        strap = np.minimum(1.25 * unit - np.abs(front - columns * 0.12), 17 * unit - y)
        _paint(trunk, strap + 0.5, carried.backpack.ground.bands * 0.85)
    if carried.strap is not None:
        side = 1.0 if carried.handbag_side == "l" else -1.0
        along = (
            np.where(front < columns / 4, x, np.sign(x) * (columns / 2) - x) * side
        )  # mirrored on the back
        slope = along - (y - 18 * unit) * (columns * 0.27) / (20 * unit)
        _paint(trunk, 1.2 * unit - np.abs(slope) * 0.8 + 0.5, carried.strap.bands)
    return trunk


def open_wardrobe(person: Person, bands: slice) -> Wardrobe:
    """Cuts all cloth of a person.

    Args:
        person: Whose.
        bands: Which reflectances to keep.

    Returns:
        The pieces; the lengths are those of the body parts that they cover.
    """
    body, outfit, carried = person.body, person.outfit, person.accessories

    def worn(texture: Texture) -> Texture:
        return np.ascontiguousarray(texture[bands].transpose(1, 2, 0))

    def piece(cloth: Cloth | None, length: float, radius: float) -> Texture | None:
        return None if cloth is None else worn(cloth.cut(length, 2 * np.pi * radius))

    return Wardrobe(
        trunk=worn(_trunk(person)),
        sleeve=worn(outfit.trim.cut(0.36, 2 * np.pi * 0.032 * body.limb)),
        leg=worn(outfit.lower_cloth.cut(body.leg + 0.05, 2 * np.pi * 0.05 * body.limb)),
        waist=worn(outfit.lower_cloth.cut(body.leg + 0.12, 2 * np.pi * 0.84 * body.hip)),
        backpack=piece(carried.backpack, 0.3, 0.09),
        handbag=piece(carried.handbag, 0.16, 0.06),
        scarf=piece(carried.scarf, 0.3, 0.064),
    )
