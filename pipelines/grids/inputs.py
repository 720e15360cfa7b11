"""What a cell is made from: the parameters and the code of its stages, each as it is now."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def relevant(root: Path, params: Mapping[str, Any], *, until: str) -> dict[str, Any]:
    """The parameters that the stages up to `until` read, by dotted key.

    Args:
        root: the project.
        params: all parameters by dotted key.
        until: the last stage.
    """
    keys = [key for stage in _stages(root, until) for key in stage.get("params", [])]
    return {
        name: value
        for name, value in params.items()
        if any(name == key or name.startswith(f"{key}.") for key in keys)
    }


def code_digest(root: Path, *, until: str) -> str:
    """sha256 over names and bytes of the Python files that the stages up to `until` depend on, and their commands.

    Docstrings and comments count as well: a file is the same or it is not.
    """
    digest = hashlib.sha256()
    stages = _stages(root, until)
    digest.update(json.dumps([stage["cmd"] for stage in stages]).encode())
    deps = [root / dep for stage in stages for dep in stage.get("deps", [])]
    files = {file for dep in deps for file in (dep.rglob("*.py") if dep.is_dir() else [dep])}
    for file in sorted(file for file in files if file.suffix == ".py" and file.is_file()):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _stages(root: Path, until: str) -> list[dict[str, Any]]:
    from pipelines.config import read_yaml

    stages = read_yaml(root / "dvc.yaml")["stages"]
    names = list(stages)
    selected = names[: names.index(until) + 1] if until in names else names
    return [stages[name].get("do", stages[name]) for name in selected]
