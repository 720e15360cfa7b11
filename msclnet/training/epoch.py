"""The figures of an epoch while it runs, and the checks that end a training which diverges."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from msclnet.errors import UserError

GIB = 2**30


class DivergedError(UserError):
    """The training left the range in which it can recover.

    `epoch` and `step` count from 1, the step within the epoch. `steps` are the last ones: `step` since the start of the
    training, `total` and `feature_norm`.
    """

    steps: Sequence[Mapping[str, float]] = ()

    def __init__(self, reason: str, *, epoch: int, step: int) -> None:
        super().__init__(f"training stopped in epoch {epoch}, step {step}: {reason}")
        self.epoch = epoch
        self.step = step


def check_losses(values: Mapping[str, float], *, epoch: int, step: int, remedy: str = "") -> None:
    """Raise a DivergedError that names the terms which are not finite."""
    wrong = {name: value for name, value in values.items() if not math.isfinite(value)}
    if wrong:
        terms = ", ".join(f"{name} = {value}" for name, value in wrong.items())
        raise DivergedError(f"{terms}. {remedy}", epoch=epoch, step=step)


def check_norm(norm: float, *, limit: float, epoch: int, step: int, remedy: str = "") -> None:
    """Raise a DivergedError unless the mean norm of the pooled feature is within (0, limit].

    Under batch norm a feature that grows without end never becomes NaN: a check for NaN alone does not find it.
    """
    if not 0 < norm <= limit:
        raise DivergedError(
            f"the pooled feature's mean norm is {norm:.3g}, beyond train.norm_limit = {limit:g}. {remedy}",
            epoch=epoch,
            step=step,
        )


def remedy_for(precision: str, unstable: Sequence[str]) -> str:
    """What helps against a divergence, by the precision and the unstable settings that are in use."""
    more = [*(f"another value than {setting}" for setting in unstable)]
    more += ["train.precision: fp32"] if precision == "bf16" else []
    rates = "Lower the rates in train.optimizer.schedule or the weights in loss"
    return f"{rates}, or take {', or '.join(more)}" if more else rates


@dataclass
class Part:
    """Running totals of an epoch up to one of its steps."""

    steps: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)  # over these steps of each figure, 0-d tensors
    figures: dict[str, float] = field(default_factory=dict)  # what is measured once an epoch
    images: int = 0
    waited: float = 0.0  # seconds spent waiting for batches
    seconds: float = 0.0  # spent on these steps, waiting included

    def add(self, measured: Mapping[str, Tensor], *, images: int, seconds: float, waited: float) -> None:
        for name, value in measured.items():
            self.sums[name] = self.sums[name].to(value.device) + value if name in self.sums else value
        self.steps += 1
        self.images += images
        self.seconds += seconds
        self.waited += waited

    def means(self) -> dict[str, float]:
        return {name: value.item() / self.steps for name, value in self.sums.items()}

    def speed(self) -> dict[str, float]:
        """`images_per_second`, and `share_waiting_for_input` in [0, 1]."""
        seconds = max(self.seconds, 1e-9)
        return {"images_per_second": self.images / seconds, "share_waiting_for_input": self.waited / seconds}


def gpu_memory(device: torch.device) -> dict[str, float]:
    """`gpu_memory_gib`: the peak of this process's tensors so far; empty without a GPU."""
    if device.type != "cuda":
        return {}
    return {"gpu_memory_gib": torch.cuda.max_memory_allocated(device) / GIB}


def time_left(seconds: float, *, done: int, left: int) -> dict[str, float]:
    """`seconds_left` for `left` steps at the pace of `done` steps in `seconds`; empty where none is done."""
    return {"seconds_left": left * seconds / done} if done else {}
