"""Patterns of cloth, drawn once for each garment as a picture of the unrolled cloth.

A texture's columns run once around the body, starting at the back: column 0 is the middle of the back, the middle
column is the front. Its rows run down. Lengths are in body heights, TEXELS texels each.
"""

from collections.abc import Callable
from typing import Literal, get_args

import cv2
import numpy as np

from msclnet.synthetic.material import Material

TEXELS = 280

Pattern = Literal[
    "plain", "bands", "pinstripes", "diagonal", "plaid", "checkers", "dots", "camouflage",
    "blocks", "chest_band", "panel", "logo", "side_stripe", "zigzag",
]  # fmt: skip
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
# Woven patterns are dyed in the yarn and mostly keep a contrast in near infrared; prints lose it more often.
PRINTED: frozenset[Pattern] = frozenset({"dots", "camouflage", "panel", "logo", "zigzag"})

Field = np.ndarray  # float32 (rows, columns): share of the mark's material in 0..1


def _soft(signed: np.ndarray) -> Field:
    """From a signed distance in texels to a coverage with a soft edge."""
    return np.clip(signed + 0.5, 0.0, 1.0).astype(np.float32)


def _wave(distance: np.ndarray, width: float, shift: float) -> Field:
    """Stripes `width` texels wide, as far apart; `shift` is a share of the period."""
    phase = np.abs(((distance / (2 * width) + shift) % 1.0) - 0.5) * 2 * width
    return _soft(phase - width / 2)


def _around(columns: int, width: float) -> float:
    """The stripe width nearest to `width` that closes seamlessly around the body."""
    return columns / (2 * max(1, round(columns / (2 * width))))


def pattern_field(
    pattern: Pattern, *, rows: int, columns: int, width: float, shift: float, seed: int
) -> Field:
    """Draws where a pattern's marks are.

    Args:
        pattern: Which one.
        rows: Texels down.
        columns: Texels around the body.
        width: Width of a mark in texels, > 1.
        shift: Where the pattern starts, in 0..1.
        seed: For the patterns with an irregular shape.

    Returns:
        (rows, columns) float32 in 0..1, 1 where the mark's material is.
    """
    y = np.arange(rows, dtype=np.float32)[:, None] + 0.5
    x = np.arange(columns, dtype=np.float32)[None, :] + 0.5
    from_front = np.abs(x - columns / 2)
    closed = _around(columns, width)
    empty = np.zeros((rows, columns), np.float32)

    def dots() -> Field:
        row = np.floor(y / (2 * width) + shift)
        u = ((x / (2 * closed) + 0.5 * (row % 2)) % 1.0 - 0.5) * 2 * closed
        v = ((y / (2 * width) + shift) % 1.0 - 0.5) * 2 * width
        return _soft(0.62 * width - np.hypot(u, v))

    def camouflage() -> Field:
        grain = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
        wide = np.concatenate([grain, grain, grain], axis=1)
        smooth = cv2.GaussianBlur(wide, (0, 0), width / 2.2)[:, columns : 2 * columns]
        return np.clip(smooth / max(float(smooth.std()), 1e-6) * 2.5 + 0.3, 0, 1)

    def logo() -> Field:
        size = 1.3 * width
        v = y - (0.36 + 0.08 * shift) * min(rows, 0.36 * TEXELS)
        u = x - columns / 2
        round_one = np.hypot(u, v)
        shapes = (size - round_one, size - np.abs(u) - np.abs(v), size * 0.8 - np.maximum(np.abs(u), np.abs(v)),
                  size * 0.4 - np.abs(round_one - size * 0.75))  # fmt: skip
        return _soft(shapes[seed % len(shapes)] + empty)

    edge = (0.3 + 0.4 * shift) * min(rows, 0.36 * TEXELS)
    drawn: dict[Pattern, Callable[[], Field]] = {
        "plain": lambda: empty,
        "bands": lambda: _wave(y, width, shift) + empty,
        "pinstripes": lambda: _wave(x, _around(columns, 0.8 * width), shift) + empty,
        "diagonal": lambda: _wave(x + y * closed / width, closed, shift) + empty,
        "plaid": lambda: 0.5 * (_wave(y, width, shift) + _wave(x, closed, shift)),
        "checkers": lambda: np.abs(_wave(y, width, shift) - _wave(x, closed, shift)),
        "dots": dots,
        "camouflage": camouflage,
        "blocks": lambda: _soft(y - edge) + empty,
        "chest_band": lambda: _soft(width - np.abs(y - edge)) + empty,
        "panel": lambda: _soft(np.minimum(1.8 * width - np.abs(y - edge), 1.6 * width - from_front)),
        "logo": logo,
        "side_stripe": lambda: _soft(0.5 * width - np.abs(from_front - columns / 4)) + empty,
        "zigzag": lambda: _wave(y + np.abs((x / (2 * closed)) % 1.0 - 0.5) * 2 * closed, width, shift),
    }
    return drawn[pattern]()


def rows_of(length: float) -> int:
    """Texels in a length given in body heights."""
    return max(2, round(length * TEXELS))


def weave(ground: Material, mark: Material, field: Field) -> np.ndarray:
    """Turns a field into cloth: (4, rows, columns) float32 reflectance in red, green, blue, near infrared."""
    start = ground.bands[:, None, None]
    return start + (mark.bands[:, None, None] - start) * field[None]
