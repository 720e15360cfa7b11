"""A function for a process of its own; in a module of its own, since that process imports it."""

import os
from collections.abc import Callable

import torch


def counting(*, device: torch.device, start: int) -> Callable[[], list[int]]:
    """Number of the process, of the call, and of threads; the third call ends the process."""
    calls = iter(range(start, start + 2))

    def count() -> list[int]:
        return [os.getpid(), next(calls, 0) or os._exit(3), torch.get_num_threads()]

    return count
