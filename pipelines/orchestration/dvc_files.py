"""Reads dvc.yaml and dvc.lock: the stages in order, their outputs, and where the cache keeps these."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.stages.config import load_yaml, suggestion

METRICS = "results/metrics/metrics.json"
FIGURES = "results/figures/"


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml: its name and the paths it writes, relative to the project."""

    name: str
    outputs: tuple[str, ...]


def read_stages(project: Path) -> list[Stage]:
    """The stages of the project's dvc.yaml, in its order.

    Raises:
        UserError: the file is missing, is no YAML, or has no stages.
    """
    file = project / "dvc.yaml"
    stages = (_load(file) or {}).get("stages")
    if not stages:
        raise UserError(f"{file} has no stages")
    return [Stage(name, tuple(_outputs(stage))) for name, stage in stages.items()]


def stages_between(
    stages: list[Stage], *, first_stage: str | None = None, last_stage: str | None = None
) -> list[Stage]:
    """The stages from the first up to and with the last; None: from the start, to the end.

    Raises:
        UserError: there is no such stage.
    """
    names = [stage.name for stage in stages]
    for name in (first_stage, last_stage):
        if name is not None and name not in names:
            raise UserError(f"no stage {name!r} in dvc.yaml{suggestion(name, names)}")
    first = names.index(first_stage) if first_stage is not None else 0
    last = names.index(last_stage) if last_stage is not None else len(names) - 1
    return stages[first : last + 1]


def output_files(lock: bytes | str, *, stages: Collection[str], cache: Path) -> dict[str, Path] | None:
    """Find the stages' outputs in the DVC cache.

    Args:
        lock: the text of a dvc.lock.
        stages: names of the stages whose outputs are wanted.
        cache: the project's DVC cache.

    Returns:
        Path in the project -> file in the cache, folders expanded into their files; None where a stage or one
        of its files is missing.
    """
    entries = (load_yaml(lock, source="dvc.lock") or {}).get("stages", {})
    files: dict[str, Path] = {}
    for name in stages:
        if name not in entries:
            return None
        for output in entries[name].get("outs", []):
            digest = output.get("md5", "")
            stored = _stored(cache, digest)
            if not stored.is_file():
                return None
            if not digest.endswith(".dir"):
                files[output["path"]] = stored
                continue
            for member in json.loads(stored.read_bytes()):
                files[f"{output['path']}/{member['relpath']}"] = _stored(cache, member["md5"])
    return files if all(file.is_file() for file in files.values()) else None


def missing_outputs(lock: bytes | str, *, cache: Path) -> list[str]:
    """Paths of the outputs in a dvc.lock that the DVC cache does not hold, a folder's files one by one."""
    missing = []
    for stage in (load_yaml(lock, source="dvc.lock") or {}).get("stages", {}).values():
        for output in stage.get("outs", []):
            stored = _stored(cache, output.get("md5", ""))
            if not stored.is_file():
                missing.append(output["path"])
            elif stored.suffix == ".dir":
                files = json.loads(stored.read_bytes())
                lost = [file["relpath"] for file in files if not _stored(cache, file["md5"]).is_file()]
                missing += [f"{output['path']}/{name}" for name in lost]
    return missing


def read_metrics(files: dict[str, Path]) -> dict[str, Any]:
    """The evaluation's metrics among the outputs; empty where there are none."""
    return json.loads(files[METRICS].read_bytes()) if METRICS in files else {}


def figures(files: dict[str, Path]) -> dict[str, Path]:
    """The PNG figures among the outputs: file name -> file."""
    return {
        name.removeprefix(FIGURES): file
        for name, file in sorted(files.items())
        if name.startswith(FIGURES) and name.endswith(".png")
    }


def _stored(cache: Path, digest: str) -> Path:
    return cache / "files" / "md5" / digest[:2] / digest[2:]


def _outputs(stage: dict[str, Any]) -> Iterable[str]:
    """The paths that a stage writes; an entry with options is a mapping of the path to them."""
    for section in ("outs", "metrics", "plots"):
        for entry in stage.get(section, []):
            yield entry if isinstance(entry, str) else next(iter(entry))


def _load(file: Path) -> Any:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    return load_yaml(text, source=str(file))
