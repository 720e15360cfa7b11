"""The parameter `profile`: a trace of some steps of the training, beside its checkpoints and in its MLflow run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msclnet.tracking.run import Tracker
from msclnet.training.loop import Training
from msclnet.training.trace import PASSED_OVER, traced


@contextmanager
def profiled(training: Training, *, steps: int, folder: Path, tracker: Tracker) -> Iterator[None]:
    """Trace some of the steps that `training` takes within the block.

    Args:
        training: Before its `run`.
        steps: How many; 0 for none.
        folder: Where the trace goes; named after its first step, counted from the training's start.
        tracker: Gets the trace as an artifact in `profile/`.
    """
    if not steps:
        yield
        return
    first = training.steps_done + PASSED_OVER + 1
    target = folder / f"step-{first}.json.gz"

    there: list[Path] = []

    def written(path: Path) -> None:
        there.append(path)
        print(f"trace of up to {steps} steps from step {first} on: {path} (for Perfetto or chrome://tracing)")
        tracker.log_artifact(path, "profile")

    with traced(target, steps=steps, device=training.device, written=written) as after_step:
        training.after_step = after_step
        yield
    if not there:
        print(f"profile: fewer than {PASSED_OVER + 1} steps were left to train: no trace")
