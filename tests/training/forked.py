"""Work in a child process that may be killed, without paying for another import of torch."""

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any


class Forked:
    """A child that runs `work(self)`; both sides talk in lines.

    Args:
        work: Runs in the child, which ends with it.
    """

    def __init__(self, work: Callable[["Forked"], Any]) -> None:
        to_parent, to_child = os.pipe(), os.pipe()
        self.pid = os.fork()
        child = self.pid == 0
        mine, its = (to_child, to_parent) if child else (to_parent, to_child)
        os.close(mine[1])
        os.close(its[0])
        self._reading = os.fdopen(mine[0], "r")
        self._writing = os.fdopen(its[1], "w")
        if child:
            code = 1
            try:
                work(self)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)

    def say(self, text: object) -> None:
        self._writing.write(f"{text}\n")
        self._writing.flush()

    def hear(self) -> str:
        """The other side's next line; empty once that side is gone."""
        return self._reading.readline().rstrip("\n")

    def wait(self) -> int:
        """The child's exit code, or minus the signal that ended it."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._reading.close()
        self._writing.close()
        return code

    def kill(self) -> int:
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()


def die(*_: object) -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)
