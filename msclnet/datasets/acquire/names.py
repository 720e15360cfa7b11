"""Names of archive members, made safe or refused."""

import re
import unicodedata

LONGEST = 4096  # what Linux takes for a whole path
_DRIVE = re.compile(r"[A-Za-z]:")


class UnsafeNameError(Exception):
    """The reason why a name is refused."""


def safe_name(raw: str) -> str:
    """The name as relative path with `/`; `.` and empty parts fall away, `\\` counts as `/`.

    Raises:
        UnsafeNameError: It is empty, too long or absolute, starts with a drive letter, or holds `..` or NUL.
    """
    name = raw.replace("\\", "/")
    if len(name) > LONGEST:
        raise UnsafeNameError(f"has more than {LONGEST} characters")
    if "\0" in name:
        raise UnsafeNameError("holds a NUL character")
    if name.startswith("/"):
        raise UnsafeNameError("is absolute")
    if _DRIVE.match(name):
        raise UnsafeNameError("starts with a drive letter")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UnsafeNameError("leads out of the archive by '..'")
    if not parts:
        raise UnsafeNameError("is empty")
    return "/".join(parts)


def check_characters(name: str) -> None:
    """Whether a name can be written into lists and messages.

    Raises:
        UnsafeNameError: It holds control characters or bytes that are no text.
    """
    kinds = {unicodedata.category(character) for character in name}
    if "Cc" in kinds:
        raise UnsafeNameError("holds control characters")
    if "Cs" in kinds:
        raise UnsafeNameError("is not written in UTF-8")
