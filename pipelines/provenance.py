"""What a result came from: code, data and parameters, each by its digest."""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msclnet.data.manifest import file_digest, read_manifest
from msclnet.data.records import SPLITS
from pipelines import places
from pipelines.config import Params, read_yaml
from pipelines.tracked import dataset_digest

TRAINING_SECTIONS = ("preprocess", "augment", "model", "synergy", "loss", "train")


def training_key(params: Params, *, device: str) -> str:
    """Name of everything that decides how a training goes; a checkpoint belongs to one such name.

    Parameters, the data's digest, the bytes of the code that dvc.yaml names for `train`, and torch's version.
    """
    import torch

    facts = {
        "seed": params.seed,
        "params": {name: params.section(name) for name in TRAINING_SECTIONS},
        "data": file_digest(places.MANIFEST),
        "code": code_digest(stage_code("train")),
        "torch": torch.__version__,
        "device": device,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def stage_code(stage: str) -> list[Path]:
    """Source files and folders that dvc.yaml names as a stage's dependencies."""
    deps = read_yaml(Path("dvc.yaml"))["stages"][stage]["deps"]
    return [Path(dep) for dep in deps if dep.startswith(("msclnet/", "pipelines/"))]


def code_digest(paths: Iterable[Path]) -> str:
    """sha256 over names and bytes of Python files."""
    digest = hashlib.sha256()
    files = {file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])}
    for file in sorted(files):
        digest.update(f"{file.as_posix()}\0".encode())
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()


def dataset_facts(params: Params) -> dict[str, Any]:
    """Name, digest and counts of the data set that lies in data/processed."""
    counts = {}
    for split in SPLITS:
        rows = read_manifest(places.MANIFEST, split)
        counts[f"{split}_visible"] = int((~rows.infrared).sum())
        counts[f"{split}_infrared"] = int(rows.infrared.sum())
        counts[f"{split}_identities"] = len(set(rows.identities.tolist()))
    return {"name": params.download.dataset, "digest": dataset_digest(), "counts": counts}


def git_commit() -> str:
    """The commit of the working tree, with `-dirty` for changed files; `none` outside git."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return run.stdout.strip()
