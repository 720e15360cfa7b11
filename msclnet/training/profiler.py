"""A trace of some training steps by torch's profiler, for Perfetto or chrome://tracing."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from msclnet.files import replaced_file

SKIPPED = 2  # steps: the first one sets torch up, the second one the profiler

logger = logging.getLogger("msclnet.training")


@contextmanager
def traced(
    target: Path, *, steps: int, device: torch.device, written: Callable[[Path], None]
) -> Iterator[Callable[[], None]]:
    """Trace `steps` steps within the block, after the first two, into `target` (.json.gz). Tracing changes no result.

    The trace holds operators with their input shapes, memory, and on a GPU its kernels. `written` is called once it is
    there. Yields what to call after each step.
    """
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])

    def write(profiler: Any) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replaced_file(target) as unfinished:
                profiler.export_chrome_trace(str(unfinished))
        except (OSError, RuntimeError) as error:  # the training is worth more than its trace
            logger.warning(
                "the profiler's trace %s could not be written (%s); training goes on", target, error
            )
            return
        written(target)

    with profile(
        activities=activities,
        schedule=schedule(wait=SKIPPED - 1, warmup=1, active=steps, repeat=1),
        on_trace_ready=write,
        record_shapes=True,
        profile_memory=True,
    ) as profiler:
        yield profiler.step
