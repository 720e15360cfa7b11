"""Work for worker processes; a module of its own, since each process imports it, and torch takes seconds."""

import os
import signal


def square(number: int) -> int:
    return number * number


def square_or_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def square_and_stop(number: int) -> int:
    os.kill(os.getpid(), (signal.SIGTERM, signal.SIGINT)[number % 2])
    return number * number


def refuse(number: int) -> int:
    raise OSError(28, "No space left on device")
