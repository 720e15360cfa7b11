"""The last steps of a training, for the case that it diverges."""

from collections import deque
from collections.abc import Mapping

from torch import Tensor

MOST = 200
SHOWN = ("total", "feature_norm")


class LastSteps:
    """Total loss and feature norm of up to `MOST` steps. They stay on the device: a look would wait for it."""

    def __init__(self) -> None:
        self._steps: deque[dict[str, Tensor]] = deque(maxlen=MOST)

    def add(self, measured: Mapping[str, Tensor]) -> None:
        """Keep what a step measured."""
        self._steps.append({name: measured[name] for name in SHOWN})

    def told(self, *, done: int) -> list[dict[str, float]]:
        """What was kept, with `step`: its number since the start of the training, of which `done` steps are done."""
        first = done - len(self._steps)
        return [
            {"step": first + i, **{name: value.item() for name, value in values.items()}}
            for i, values in enumerate(self._steps, start=1)
        ]
