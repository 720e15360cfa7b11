"""What a person may choose, and the device that it is measured on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines import settings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        quick: Small sizes and few turns: shows that everything works, and decides nothing.
        compile: Whether torch.compile takes part in the training step; it takes minutes to start.
        batch: Images of a training step; 0 for the default.
    """

    quick: bool = False
    compile: bool = False
    batch: int = 0

    def turns(self, full: int) -> int:
        """How many turns to take the median of."""
        return 2 if self.quick else full


def device() -> "torch.device":
    """The device by the project's own rules; see pipelines.settings."""
    return settings.device()


def synchroniser(device: "torch.device") -> Callable[[], None]:
    """A function that waits for the device."""
    import torch

    return torch.cuda.synchronize if device.type == "cuda" else lambda: None
