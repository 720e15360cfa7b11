"""A finished cell as the record that is committed: setting, seed, commit, machine, cost, figures, history."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from msclnet.tracking import naming
from msclnet.training.history import read_history
from pipelines import settings
from pipelines.experiments.grid import GridCell
from pipelines.orchestration.dvc_files import METRICS, output_files
from pipelines.orchestration.runs import RunResult
from pipelines.orchestration.workspace import base_commit, cache_folder, git
from pipelines.stages import paths
from pipelines.stages.config import load_yaml

_DIGITS = 5
# Of the machine, not of the method; what they say is in `training`.
_NOT_KEPT = naming.OF_THE_MACHINE


def record_of(
    root: Path, planned: GridCell, result: RunResult, seconds: Mapping[str, float]
) -> dict[str, Any]:
    """The record of a cell whose stages have ended well.

    Args:
        root: the project.
        planned: the cell.
        result: its experiment.
        seconds: time that each stage took here.
    """
    lock = git(root, "cat-file", "blob", f"{result.rev}:dvc.lock")
    files = output_files(lock, stages=list(result.stages), cache=cache_folder(root)) or {}
    rows = _history(files.get(str(paths.HISTORY)))
    run = _json(files.get(str(paths.RUN)))
    if planned.score == "validation":
        figures: dict[str, Any] = {"validation": _kept(rows, run.get("kept_epoch"))}
    else:
        metrics = _json(files.get(METRICS))
        validation = metrics.pop("validation", {})
        figures = {"validation": validation, "test": metrics}
    return {
        **setting(planned),
        "experiment": {"name": result.name, "commit": result.rev},
        "mlflow_run": run.get("run_id", ""),
        "commit": base_commit(root),
        "data": _data(lock),
        "machine": {**this_machine(), "trained_here": result.stages.get("train") == "run"},
        "training": training_cost(planned.params, rows),
        "stages": {
            name: {"status": status, "seconds": round(seconds.get(name, 0.0), 1)}
            for name, status in result.stages.items()
        },
        "figures": figures,
        "history": columns(rows),
    }


def record_of_divergence(
    root: Path,
    planned: GridCell,
    message: str,
    rows: list[dict[str, float]],
    steps: list[dict[str, float]],
) -> dict[str, Any]:
    """The record of a cell whose training left the range in which it can recover: an outcome, not a breakdown.

    Args:
        root: the project.
        planned: the cell.
        message: what the training said.
        rows: the epochs before, as far as they are known.
        steps: its last steps, likewise.
    """
    return {
        **setting(planned),
        "commit": base_commit(root),
        "machine": {**this_machine(), "trained_here": True},
        "training": training_cost(planned.params, rows),
        "diverged": message,
        "figures": {},
        "history": columns(rows),
        "last_steps": columns(steps),
    }


def setting(planned: GridCell) -> dict[str, Any]:
    """What makes a cell this cell; `params` and `code` decide whether it is finished."""
    return {
        "grid": planned.grid,
        "row": planned.row.name,
        "seed": planned.seed,
        "score": planned.score,
        "preset": planned.cell.preset,
        "overrides": dict(planned.cell.overrides),
        "params": planned.params,
        "code": planned.code,
    }


def this_machine() -> dict[str, Any]:
    """Processor, cores, GPU and torch of this machine; nothing that names it."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "none"
    return {"cores": settings.cores(), "device": _device(), "torch": torch}


def training_cost(params: Mapping[str, Any], rows: list[dict[str, float]]) -> dict[str, Any]:
    """Epochs, steps and seconds of the training itself, wherever and whenever it ran.

    The seconds come from the history (images / images per second): a restored training took its time, too.
    """
    batch = params.get("train.batch.identities", 0) * params.get("train.batch.images", 0) * 2
    steps = params.get("train.steps_per_epoch", 0)
    speeds = [row["images_per_second"] for row in rows if row.get("images_per_second")]
    cost: dict[str, Any] = {"epochs": len(rows), "steps": steps * len(rows) or None, "seconds": None}
    if speeds and steps and batch:
        cost["seconds"] = round(sum(steps * batch / speed for speed in speeds), 1)
    return cost


def columns(rows: list[dict[str, float]]) -> dict[str, list[float | None]]:
    """History by column, None where an epoch lacks a figure; five digits."""
    names = [name for name in dict.fromkeys(n for row in rows for n in row) if name not in _NOT_KEPT]
    return {name: [_short(row.get(name)) for row in rows] for name in names}


def _short(value: float | None) -> float | int | None:
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.{_DIGITS}g}")


def _kept(rows: list[dict[str, float]], epoch: int | None) -> dict[str, float]:
    """The validation figures of the epoch whose weights were kept."""
    scored = [row for row in rows if "val_score" in row and row["epoch"] == (epoch or rows[-1]["epoch"])]
    return {
        name.removeprefix("val_"): v for row in scored for name, v in row.items() if name.startswith("val_")
    }


def _history(file: Path | None) -> list[dict[str, float]]:
    return [] if file is None else read_history(file)


def _json(file: Path | None) -> dict[str, Any]:
    return json.loads(file.read_bytes()) if file is not None else {}


def _data(lock: bytes) -> dict[str, str]:
    """Digests of the data that the training read, by path."""
    train = load_yaml(lock, source="dvc.lock")["stages"].get("train", {})
    return {dep["path"]: dep["md5"] for dep in train.get("deps", []) if dep["path"].startswith("data/")}


def _device() -> str:
    if os.environ.get("MSCLNET_DEVICE", "auto") != "cpu":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
