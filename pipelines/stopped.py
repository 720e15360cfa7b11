"""A training that is stopped from outside says how to go on."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from msclnet.training.checkpoint import CheckpointFolder

WORDS = {128 + signal.SIGTERM: "SIGTERM", 128 + signal.SIGINT: "Ctrl-C"}


@contextmanager
def tells_how_to_go_on(checkpoints: CheckpointFolder) -> Iterator[None]:
    """Where SIGTERM or Ctrl-C ends the block, print a line that says from where the next start goes on."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as stop:
        code = 128 + signal.SIGINT if isinstance(stop, KeyboardInterrupt) else stop.code
        if code in WORDS:
            print(f"stopped by {WORDS[code]}: {_how(checkpoints)}", file=sys.stderr)
        raise


def _how(checkpoints: CheckpointFolder) -> str:
    if checkpoints.latest is None:
        return "nothing was trained yet; start the same command again"
    epoch, step = checkpoints.latest
    place = f"epoch {epoch}" + (f" and {step} steps of the next" if step else "")
    return f"start the same command again to go on after {place} (saved in {checkpoints.folder})"
