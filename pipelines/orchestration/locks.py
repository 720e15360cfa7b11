"""File locks that end with the last process that holds them, however that process ends."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def try_lock(path: Path) -> int | None:
    """Take the lock at `path` if it is free.

    Returns:
        An open descriptor, or None where somebody else holds the lock. The lock belongs to the descriptor and
        to every copy of it in a child process: an orphaned child keeps it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def held_lock(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Hold the lock at `path`, waiting for it where somebody else has it.

    Args:
        path: the lock file; it stays behind, empty.
        on_wait: called once before waiting.

    Yields:
        The descriptor, to be handed to children that must keep the lock.
    """
    descriptor = try_lock(path)
    if descriptor is None:
        if on_wait is not None:
            on_wait()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException:
            os.close(descriptor)
            raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)
