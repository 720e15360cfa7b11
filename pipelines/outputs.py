"""Writing a stage's outputs safely.

DVC links its cache to the workspace: an output may be the very file in the cache, and a file opened for writing in
place would change the cache behind DVC's back.
"""

import json
from pathlib import Path
from typing import Any


def fresh(path: Path) -> Path:
    """A path that is safe to write to: its folder exists, and a former file there is unlinked, not overwritten."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def write_json(path: Path, values: Any) -> None:
    """Write values as indented JSON to a fresh file."""
    fresh(path).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
