"""Reads dvc.yaml and dvc.lock: the stages in order, their outputs, and where the cache keeps these."""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.stages.config import load_yaml, suggestion


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml: its name and the paths it writes, relative to the project."""

    name: str
    outputs: tuple[str, ...]


def read_stages(project: Path) -> list[Stage]:
    """The stages of the project's dvc.yaml, in its order."""
    file = project / "dvc.yaml"
    try:
        stages = load_yaml(file.read_bytes(), source=str(file))["stages"]
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    except (KeyError, TypeError):
        raise UserError(f"{file} has no stages") from None
    found = []
    for name, stage in stages.items():
        entries = [entry for section in ("outs", "metrics", "plots") for entry in stage.get(section, [])]
        # An entry with options is a mapping of the path to them.
        outputs = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
        found.append(Stage(name, tuple(outputs)))
    return found


def stages_between(
    stages: list[Stage], *, first_stage: str | None = None, last_stage: str | None = None
) -> list[Stage]:
    """The stages from the first up to and with the last; None: from the start, to the end."""
    names = [stage.name for stage in stages]
    for name in (first_stage, last_stage):
        if name is not None and name not in names:
            raise UserError(f"no stage {name!r} in dvc.yaml{suggestion(name, names)}")
    first = names.index(first_stage) if first_stage is not None else 0
    last = names.index(last_stage) if last_stage is not None else len(names) - 1
    return stages[first : last + 1]


def output_files(lock: str | bytes, *, stages: Collection[str], cache: Path) -> dict[str, Path]:
    """Outputs of the stages of a dvc.lock: path in the project -> file in the DVC cache, folders file by file.

    Empty where a stage or one of its files is missing.
    """
    entries = (load_yaml(lock, source="dvc.lock") or {}).get("stages", {})
    if not entries.keys() >= set(stages):
        return {}
    files = dict(_outputs((entries[name] for name in stages), cache))
    return files if all(file.is_file() for file in files.values()) else {}


def missing_outputs(lock: str | bytes, *, cache: Path) -> list[str]:
    """Paths of the outputs in a dvc.lock that the DVC cache does not hold, a folder's files one by one."""
    entries = (load_yaml(lock, source="dvc.lock") or {}).get("stages", {})
    return [path for path, file in _outputs(entries.values(), cache) if not file.is_file()]


def _outputs(entries: Iterable[dict[str, Any]], cache: Path) -> Iterator[tuple[str, Path]]:
    """Each output of dvc.lock's entries with its file in the cache; a folder's files where the cache lists them."""
    for output in (output for entry in entries for output in entry.get("outs", [])):
        path, stored = output["path"], _stored(cache, output.get("md5", ""))
        if stored.suffix == ".dir" and stored.is_file():
            for member in json.loads(stored.read_bytes()):
                yield f"{path}/{member['relpath']}", _stored(cache, member["md5"])
        else:
            yield path, stored


def _stored(cache: Path, digest: str) -> Path:
    return cache / "files" / "md5" / digest[:2] / digest[2:]
