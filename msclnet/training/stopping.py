"""Defers SIGTERM and Ctrl-C until the current step is complete."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Within its block, a signal never interrupts a `deferred` block.

    The signals' former handlers decide how the process ends; SIGTERM without one raises SystemExit(143). Signals that
    are ignored stay ignored. In other threads than the main one, where Python delivers no signals, nothing changes.

    `defer=False` lets signals take effect at once: a rank among several must not defer, for its step may never end
    after another rank has ended. `consistent`: whether the state may be saved; False within a `deferred` block, and
    for good once such a block was left by an exception.
    """

    def __init__(self, *, defer: bool = True) -> None:
        self.defer = defer
        self.consistent = True
        self._former: dict[int, Any] = {}
        self._pending: int | None = None

    def __enter__(self) -> "Stopping":
        if self.defer and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                former = signal.getsignal(number)
                if former not in (signal.SIG_IGN, None):
                    self._former[number] = former
                    signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, former in self._former.items():
            # A former handler may have replaced this one on purpose: pipelines.stages.stage ignores a second SIGTERM.
            if signal.getsignal(number) == self._receive:
                signal.signal(number, former)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Signals that arrive within this block take effect at its end."""
        self.consistent = False
        yield
        self.consistent = True
        if self._pending is not None:
            number, self._pending = self._pending, None
            self._end(number, None)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.consistent:
            self._end(number, frame)
        else:
            self._pending = number

    def _end(self, number: int, frame: FrameType | None) -> None:
        former = self._former[number]
        if not callable(former):
            raise SystemExit(128 + number)
        former(number, frame)
