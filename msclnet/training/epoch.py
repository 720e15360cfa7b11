"""What an epoch has gathered so far: sums of its losses, and how fast it goes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

GIB = 2**30


@dataclass
class Part:
    """An epoch up to one of its steps. Together with network and optimizer it is all that the epoch needs to go on.

    Attributes:
        steps: Steps done.
        sums: Sum over these steps of each figure, tensors without dimensions.
        figures: What was measured once in the epoch.
        images: Images seen.
        waited: Seconds spent waiting for batches.
        seconds: Seconds spent on these steps, waiting included.
    """

    steps: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    images: int = 0
    waited: float = 0.0
    seconds: float = 0.0

    def add(self, measured: Mapping[str, Tensor], *, images: int, seconds: float, waited: float) -> None:
        """Count one step: its figures, and how long it took and waited."""
        for name, value in measured.items():
            self.sums[name] = self.sums[name].to(value.device) + value if name in self.sums else value
        self.steps += 1
        self.images += images
        self.seconds += seconds
        self.waited += waited

    def means(self) -> dict[str, float]:
        """Mean over the steps of each figure."""
        return {name: value.item() / self.steps for name, value in self.sums.items()}

    def speed(self) -> dict[str, float]:
        """`images_per_second`, and `share_waiting_for_input` in [0, 1]."""
        seconds = max(self.seconds, 1e-9)
        return {
            "images_per_second": self.images / seconds,
            "share_waiting_for_input": self.waited / seconds,
        }


def gpu_memory(device: torch.device) -> dict[str, float]:
    """`gpu_memory_gib`: the most that tensors of this process took up so far; empty without a GPU."""
    if device.type != "cuda":
        return {}
    return {"gpu_memory_gib": torch.cuda.max_memory_allocated(device) / GIB}


def time_left(seconds: float, *, done: int, left: int) -> dict[str, float]:
    """`seconds_left`: time that the steps left take at the pace of those done; empty where none is done.

    Args:
        seconds: Time that the steps took, with all that goes with them: validations, checkpoints.
        done: Steps done in this time.
        left: Steps left.
    """
    return {"seconds_left": left * seconds / done} if done else {}
