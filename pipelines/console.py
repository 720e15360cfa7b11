"""Formats text for the terminal and for logs: control characters escaped, credentials in addresses hidden."""

import re
import sys
import traceback
from types import TracebackType

from msclnet.tracking.masking import mask


def one_line(text: object) -> str:
    """Text with everything unprintable escaped, such as line breaks, terminal codes and bytes that are no text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def printable(text: object) -> str:
    """A message of one or more lines, fit for a terminal, a log or a database."""
    return re.sub(r"[^\n\t]+", lambda part: one_line(part[0]), mask(str(text)))


def mask_tracebacks() -> None:
    """Hide credentials in the tracebacks of this process: libraries quote addresses in their exceptions."""
    sys.excepthook = _print_masked


def _print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(mask("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
