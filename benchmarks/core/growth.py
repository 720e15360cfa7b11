"""How cost grows with size: the exponent of a power law, fitted on log axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.1  # of an exponent: a tenth is what caches and rounding of block sizes do


@dataclass(frozen=True)
class Curve:
    """Cost of one operation at growing sizes.

    Attributes:
        name: The operation.
        axis: What grows: `identities`, `images` or `gallery images`.
        sizes: Ascending.
        seconds: Of one call at each size.
        note: What else is worth knowing, such as why it cannot be linear.
    """

    name: str
    axis: str
    sizes: Sequence[int]
    seconds: Sequence[float]
    note: str = ""

    @property
    def exponent(self) -> float:
        """See `exponent`."""
        return exponent(self.sizes, self.seconds)

    @property
    def at_most_linear(self) -> bool:
        """Whether the exponent is 1 or less, up to a tenth."""
        return self.exponent <= 1 + TOLERANCE


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of log(seconds) over log(size), by least squares over the larger half of the sizes, at least three.

    Small sizes show fixed costs; what matters is where the cost goes.

    Raises:
        ValueError: There are fewer than two sizes, or a value is not positive.
    """
    if len(sizes) < 2 or len(sizes) != len(seconds) or min(*sizes, *seconds) <= 0:
        raise ValueError(
            f"two or more positive sizes and as many times are needed, not {sizes} and {seconds}"
        )
    used = max(min(3, len(sizes)), math.ceil(len(sizes) / 2))
    points = sorted(zip(sizes, seconds, strict=True))[-used:]
    x, y = ([math.log(point[i]) for point in points] for i in (0, 1))
    mean_x, mean_y = sum(x) / used, sum(y) / used
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)
