"""SIGTERM and Ctrl-C during a training: they wait until the state is whole again."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Within its block, a signal that asks the process to end never cuts a `held_back` block in two.

    It is for the signals' former handlers to say how the process ends; SIGTERM without one raises
    SystemExit(143). Signals that are ignored stay ignored, and in threads other than the main one, where Python
    delivers no signals, nothing changes.

    Args:
        waits: False lets signals take effect at once. A process that trains with others must not wait: its step may
            never end when another one has gone.

    Attributes:
        whole: Whether the state is one that may be saved: False within a `held_back` block, and for good
            once such a block was left by an exception.
    """

    def __init__(self, *, waits: bool = True) -> None:
        self.waits = waits
        self.whole = True
        self._former: dict[int, Any] = {}
        self._waiting: int | None = None

    def __enter__(self) -> "Stopping":
        if self.waits and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                former = signal.getsignal(number)
                if former not in (signal.SIG_IGN, None):
                    self._former[number] = former
                    signal.signal(number, self._take)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, former in self._former.items():
            # A handler that has begun to end the process may have replaced this one, for good reason.
            if signal.getsignal(number) == self._take:
                signal.signal(number, former)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Signals that come within this block take effect at its end."""
        self.whole = False
        yield
        self.whole = True
        if self._waiting is not None:
            number, self._waiting = self._waiting, None
            self._end(number, None)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.whole:
            self._end(number, frame)
        else:
            self._waiting = number

    def _end(self, number: int, frame: FrameType | None) -> None:
        former = self._former[number]
        if not callable(former):
            raise SystemExit(128 + number)
        former(number, frame)
