"""A child's output as lines for a log, in which a progress bar is one line now and then."""

import re
from collections.abc import Callable

PROGRESS_SECONDS = 10.0

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_END = re.compile(rb"\r\n|\n|\r(?!\n)")


class LineSplitter:
    """Cut bytes into lines; empty ones are dropped.

    A progress bar rewrites its line: what ends in a carriage return is a state of the bar. Such states are passed
    on at most every `PROGRESS_SECONDS`, so that a log tells how far a stage is without thousands of lines; the
    final one, which ends in a newline, always is.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._buffer = b""
        self._bar = ""
        self._bar_time = float("-inf")

    def feed(self, data: bytes, now: float) -> None:
        """Take more bytes; `now` is a monotonic time in seconds."""
        self._buffer += data
        start = 0
        for end in _END.finditer(self._buffer):
            # A carriage return at the very end may be the first half of a Windows line end.
            if end.group() == b"\r" and end.end() == len(self._buffer):
                break
            text = _clean(self._buffer[start : end.start()])
            start = end.end()
            if end.group() == b"\r":
                self._bar = text or self._bar
                self.tick(now)
            else:
                self._emit(text or self._bar)
                self._bar = ""
        self._buffer = self._buffer[start:]

    def tick(self, now: float) -> None:
        """Pass the bar's present state on if it is time; also called while there is nothing to read."""
        if self._bar and now - self._bar_time >= PROGRESS_SECONDS:
            self._bar_time = now
            self._emit(self._bar)
            self._bar = ""

    def close(self) -> None:
        """The output has ended: pass on what is left."""
        self._emit(_clean(self._buffer) or self._bar)
        self._buffer, self._bar = b"", ""

    def _emit(self, text: str) -> None:
        if text:
            self._on_line(text)


def _clean(data: bytes) -> str:
    return _ESCAPES.sub("", data.decode(errors="replace")).rstrip()
