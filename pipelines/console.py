"""What programs print: without secrets, and without characters that would steer a terminal."""

import re
import sys
import traceback
from types import TracebackType

from msclnet.tracking.masking import mask


def in_one_line(text: object) -> str:
    """A file's name, say, which may hold line breaks, terminal codes, and bytes that are no text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def tellable(text: object) -> str:
    """A message of one or more lines, fit for a terminal, a log or another program's database."""
    return re.sub(r"[^\n\t]+", lambda part: in_one_line(part[0]), mask(str(text)))


def mask_tracebacks() -> None:
    """Lets a defect's traceback show no secret either: libraries quote addresses in their exceptions."""
    sys.excepthook = _print_masked


def _print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(mask("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
