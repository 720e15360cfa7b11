"""What identifies a rendered person, and what must not: hue and near-infrared reflectance are strangers."""

import numpy as np
import pytest

from msclnet.synthetic.identity import draw_person
from msclnet.synthetic.material import Material
from msclnet.synthetic.render import render_person
from msclnet.synthetic.texture import PATTERNS, pattern_field

PEOPLE = 1500


@pytest.fixture(scope="module")
def people() -> list:
    return [draw_person(0, identity) for identity in range(PEOPLE)]


def circular_linear_correlation(hues: np.ndarray, values: np.ndarray) -> float:
    """Multiple correlation of a number with the sine and cosine of an angle given in turns."""
    design = np.stack([np.ones_like(hues), np.cos(2 * np.pi * hues), np.sin(2 * np.pi * hues)], axis=1)
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(np.sqrt(((fitted - values.mean()) ** 2).sum() / ((values - values.mean()) ** 2).sum()))


def coloured(materials: list[Material]) -> tuple[np.ndarray, np.ndarray]:
    """Hues and near-infrared reflectances of the materials that have a hue."""
    kept = [m for m in materials if max(m.bands[:3]) - min(m.bands[:3]) > 0.15]
    return np.array([m.hue for m in kept]), np.array([m.infrared for m in kept])


@pytest.mark.parametrize("part", ["cloth", "lower_cloth"])
def test_hue_says_nothing_about_reflectance(people: list, part: str) -> None:
    hues, reflectances = coloured([getattr(person.outfit, part).ground for person in people])
    assert len(hues) > PEOPLE / 2
    assert reflectances.std() > 0.1
    # n independent pairs reach r with probability exp(-n r^2 / 2): below 1e-4 for 1,000 pairs.
    assert circular_linear_correlation(hues, reflectances) < 0.14


def test_the_probe_finds_a_hue_that_does_tell() -> None:
    hues = np.random.default_rng(0).random(1000)
    assert circular_linear_correlation(hues, 0.5 + 0.2 * np.cos(2 * np.pi * (hues - 0.3))) > 0.99


def test_fabric_does_say_something_about_reflectance(people: list) -> None:
    by_fabric = {
        fabric: np.mean([p.outfit.cloth.ground.infrared for p in people if p.outfit.cloth.fabric == fabric])
        for fabric in ("cotton", "leather")
    }
    assert by_fabric["cotton"] > by_fabric["leather"] + 0.2


def test_some_patterns_vanish_in_near_infrared_and_some_invert(people: list) -> None:
    cloths = [person.outfit.cloth for person in people if person.outfit.cloth.pattern != "plain"]
    contrast = np.array([cloth.mark.infrared - cloth.ground.infrared for cloth in cloths])
    visible = np.array([cloth.mark.lightness - cloth.ground.lightness for cloth in cloths])
    seen = np.abs(contrast) > 0.1
    assert 0.01 < 1 - seen.mean() < 0.2
    assert 0.01 < (contrast[seen] * visible[seen] < 0).mean() < 0.2


@pytest.mark.parametrize("width", [10, 14, 25])
def test_bands_are_as_wide_as_asked(width: int) -> None:
    field = pattern_field("bands", rows=20 * width, columns=80, width=width, shift=0.0, seed=0)
    column = field[:, 0] > 0.5
    edges = np.flatnonzero(np.diff(column.astype(int)))
    assert len(edges) == 20
    assert np.abs(np.diff(edges) - width).max() <= 1  # an odd width is half a texel off at each end
    assert field.sum(axis=0) == pytest.approx(10 * width, rel=1e-5)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_have_marks_and_close_around_the_body(pattern: str) -> None:
    field = pattern_field(pattern, rows=120, columns=160, width=14.3, shift=0.4, seed=5)  # type: ignore[arg-type]
    assert field.shape == (120, 160)
    assert field.dtype == np.float32
    assert field.min() >= 0
    assert field.max() <= 1
    assert (0.01 < field.mean() < 0.9) == (pattern != "plain")
    seam = np.abs(field[:, 0] - field[:, -1]).mean()
    inside = np.abs(np.diff(field, axis=1)).mean(axis=0).max()
    assert seam <= inside + 1e-6


def test_a_person_does_not_depend_on_those_before() -> None:
    assert draw_person(4, 9) == draw_person(4, 9)
    assert draw_person(4, 9) != draw_person(4, 10)
    assert draw_person(4, 9) != draw_person(5, 9)


def test_a_picture_does_not_depend_on_those_before() -> None:
    first = render_person(seed=2, identity=3, camera=4, image=1)
    render_person(seed=2, identity=4, camera=3, image=0)
    render_person(seed=3, identity=3, camera=4, image=1)
    assert np.array_equal(render_person(seed=2, identity=3, camera=4, image=1), first)
    assert first.dtype == np.uint8
    assert not np.array_equal(render_person(seed=2, identity=3, camera=4, image=2), first)
