"""Remembers digests, so that large data that did not change are not read again."""

import json
import re
from contextlib import suppress
from pathlib import Path

from msclnet.datasets.acquire.files import replacing
from msclnet.errors import UserError


def recall(memory: Path, path: Path, state: str) -> str | None:
    """The digest that a path had in this very state.

    Args:
        memory: The JSON file; one that is missing or damaged remembers nothing.
        path: Absolute.
        state: Sizes, times and the like, as text; any change of it means that the digest is not known.
    """
    entry = _read(memory).get(str(path))
    return entry["sha256"] if entry and entry["state"] == state else None


def remember(memory: Path, path: Path, state: str, sha256: str) -> None:
    """Keep the digest of a path in place of its former one."""
    values = _read(memory) | {str(path): {"state": state, "sha256": sha256}}
    # Forgetting only costs time: a memory that is read-only or that another process is writing stops nobody.
    with suppress(OSError, UserError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        with replacing(memory) as file:
            file.write(json.dumps(values, indent=1).encode() + b"\n")


def _read(memory: Path) -> dict[str, dict[str, str]]:
    try:
        values = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return (
        {path: entry for path, entry in values.items() if _sound(entry)} if isinstance(values, dict) else {}
    )


def _sound(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("state"), str)
        and re.fullmatch("[0-9a-f]{64}", str(entry.get("sha256"))) is not None
    )
