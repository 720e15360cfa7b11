"""The stack on which this thread's signal handlers run."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

SS_DISABLE = 2


class _Stack(ctypes.Structure):
    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


def _present() -> _Stack:
    stack = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack


def signal_stack_size() -> int:
    """Bytes of the stack set apart for signal handlers; 0 where they use the ordinary one, as Python's do."""
    stack = _present()
    return 0 if stack.ss_flags & SS_DISABLE else stack.ss_size


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """After the block, this thread's signal handlers run on the stack they had before it.

    OpenVINO sets a small stack apart when it loads its plugin for the CPU, in whatever thread asks for it, be it to
    compile a model or to name the processor's abilities. Where a signal's frame does not fit, or the stack is already
    gone, the kernel ends the process with a segmentation fault: SIGTERM would not end a stage in order, nor would the
    end of a DataLoader's worker be noticed.
    """
    before = _present()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
