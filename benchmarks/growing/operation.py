"""An operation that can be made for any size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """What is timed at growing sizes.

    Attributes:
        name: For the table.
        axis: `identities`, `images` or `gallery images`.
        sizes: Ascending.
        make: From a size to the call that is timed; what prepares it is not timed.
        note: What else is worth knowing.
    """

    name: str
    axis: str
    sizes: Sequence[int]
    make: Callable[[int], Callable[[], object]]
    note: str = ""
