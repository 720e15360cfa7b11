"""The exception for what the user can repair, and how libraries report that the memory is used up."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

# torch and threading raise plain RuntimeErrors for the main memory.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "bad_alloc",
    "can't start new thread",
)


class UserError(Exception):
    """A mistake in the user's input or surroundings.

    The message names the file or key, the value found there and the remedy. Programs print it without a
    traceback; everything else that is raised is a defect of this project.
    """


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether a library reports that the main memory or a GPU's memory is used up."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in _OUT_OF_MEMORY)
    return isinstance(error, MemoryError)


@contextmanager
def memory_errors_explained(remedy: str) -> Iterator[None]:
    """Turn an error for want of memory within the block into a UserError that ends with `remedy`."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not ran_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"the memory is used up ({reason}); {remedy}") from error
