"""The committed record of finished cells: experiments/results/<grid>/<row>-s<seed>.json."""

import json
import os
from pathlib import Path
from typing import Any

from msclnet.errors import UserError

RESULTS = Path("experiments") / "results"


def result_path(grid: str, row: str, seed: int) -> Path:
    """A cell's file, relative to the project."""
    return RESULTS / grid / f"{row}-s{seed}.json"


def read_result(root: Path, path: Path) -> dict[str, Any] | None:
    """A cell's record; None where there is none.

    Raises:
        UserError: the file is damaged.
    """
    try:
        result = json.loads((root / path).read_text(encoding="utf-8"))
        if not isinstance(result, dict) or not {"row", "seed", "params", "code", "figures"} <= set(result):
            raise ValueError("not the record of a cell")
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): restore it with git, or remove it") from None
    return result


def read_results(root: Path, grid: str) -> list[dict[str, Any]]:
    """All records of a grid, by file name.

    Raises:
        UserError: a file is damaged.
    """
    paths = sorted((root / RESULTS / grid).glob("*.json"))
    found = [read_result(root, path.relative_to(root)) for path in paths]
    return [result for result in found if result is not None]


def write_result(root: Path, path: Path, result: dict[str, Any]) -> None:
    """Write a record whole or not at all."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    unfinished.write_text(_readable(result) + "\n", encoding="utf-8")
    unfinished.replace(target)


def _readable(values: Any, indent: int = 0) -> str:
    """JSON with a line for each key and each list, so that git shows which figure changed."""
    if not isinstance(values, dict) or not values:
        return json.dumps(values)
    inner = " " * (indent + 1)
    lines = [f"{inner}{json.dumps(key)}: {_readable(value, indent + 1)}" for key, value in values.items()]
    return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
