"""The committed records of finished cells: experiments/results/<grid>.jsonl, one record a line."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from msclnet.errors import UserError
from msclnet.files import replaced_file

RESULTS = Path("experiments") / "results"
_KEYS = {"row", "seed", "score", "params", "figures"}


def records_file(grid: str) -> Path:
    """The file of a grid's records, relative to the project."""
    return RESULTS / f"{grid}.jsonl"


def recipe_of(record: Mapping[str, Any]) -> int:
    """The recipe that a record was made by; records from before there was such a number count as 1."""
    return record.get("recipe", 1)


def read_results(root: Path, grid: str) -> list[dict[str, Any]]:
    """All records of a grid by row and seed, at most one for each; empty where there are none."""
    return [record for _, record in _read(root / records_file(grid), records_file(grid))]


def write_result(root: Path, grid: str, record: Mapping[str, Any]) -> None:
    """Add a record, or put it in the place of the one with its row and seed; several programs may do so at once."""
    name = records_file(grid)
    locks = root / ".dvc" / "tmp" / "flows" / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"records-{grid}"):
        lines = {_key(former): line for line, former in _read(target, name)}
        lines[_key(record)] = json.dumps(record)
        with replaced_file(target) as unfinished:
            unfinished.write_text("".join(f"{lines[key]}\n" for key in sorted(lines)), encoding="utf-8")


def images_differ(records: Iterable[Mapping[str, Any]]) -> bool:
    """Whether records with the same parameters of the data have different digests of it."""
    seen: dict[tuple[str, str], str] = {}
    for record in records:
        for path, digest in record.get("data", {}).items():
            # RegDB's splits share the raw images.
            sections = ("download.",) if path.startswith("data/raw/") else ("download.", "preprocess.")
            given = {key: value for key, value in record["params"].items() if key.startswith(sections)}
            if seen.setdefault((path, json.dumps(given, sort_keys=True)), digest) != digest:
                return True
    return False


def _read(path: Path, name: Path) -> list[tuple[str, dict[str, Any]]]:
    """Line and record, sorted by row and seed: git merges two files by appending lines to each other."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found: dict[tuple[str, int], tuple[str, dict[str, Any]]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not record.keys() >= _KEYS:
                raise ValueError("not the record of a cell")
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{name}, line {number} is damaged ({error}): restore the file with git, or remove the line"
            ) from None
        if _key(record) in found:
            raise UserError(
                f"{name}, line {number} is a second record of row {record['row']}, seed {record['seed']}: remove one "
                "of the two lines"
            )
        found[_key(record)] = line, record
    return [found[key] for key in sorted(found)]


def _key(record: Mapping[str, Any]) -> tuple[str, int]:
    return record["row"], record["seed"]
