"""One way to draw progress bars: lively on a terminal, sparing in a log."""

import sys
from typing import Any

from tqdm import tqdm

LOG_INTERVAL = 15.0  # seconds between two lines where the output is no terminal


def progress_bar(*, total: int, desc: str, unit: str, initial: int = 0, disable: bool = False) -> "tqdm[Any]":
    """A tqdm bar with rate and time left."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc=desc,
        unit=unit,
        disable=disable,
        mininterval=0.2 if terminal else LOG_INTERVAL,
        maxinterval=LOG_INTERVAL,
        dynamic_ncols=terminal,
    )
