"""The stack on which this thread's signal handlers run."""

import ctypes

SS_DISABLE = 2


class _Stack(ctypes.Structure):
    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


def signal_stack_size() -> int:
    """Bytes of the stack set apart for signal handlers; 0 where they use the ordinary one, as Python's do."""
    stack = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return 0 if stack.ss_flags & SS_DISABLE else stack.ss_size


def use_the_ordinary_stack() -> None:
    """Let signal handlers of this thread run on the ordinary stack again.

    OpenVINO sets a small stack apart when it compiles a model, in whatever thread calls it. Where a signal's frame does
    not fit, or the stack is already gone, the kernel ends the process with a segmentation fault: SIGTERM would not
    end a stage in order, nor would the end of a DataLoader's worker be noticed.
    """
    ctypes.CDLL(None).sigaltstack(ctypes.byref(_Stack(None, SS_DISABLE, 0)), None)
