"""Memory: what there is, and what a call takes."""

import tracemalloc
from collections.abc import Callable

import psutil

GIB = 2**30
USABLE = 0.6  # of the free memory: others live on this machine


def peak_bytes(work: Callable[[], object]) -> int:
    """Largest sum of what numpy and Python hold during a call, less what they held before.

    Args:
        work: Run once, more slowly than otherwise.
    """
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def lacking(needed: float) -> str:
    """Why something that needs so many bytes cannot run now; empty where it can."""
    available = psutil.virtual_memory().available
    if needed <= USABLE * available:
        return ""
    return f"not run: needs {needed / GIB:.0f} GiB, and {USABLE:.0%} of the free {available / GIB:.0f} GiB may be used"
