"""Turns a finished cell into its committed record: setting, seed, commit, machine, cost, figures, history."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from msclnet.recipe import RECIPE
from msclnet.tracking.run import MACHINE_METRICS
from msclnet.training.history import parse_history, read_history
from pipelines import settings
from pipelines.experiments.plan import GridCell
from pipelines.orchestration.runs import DivergedError, RunResult
from pipelines.orchestration.workspace import base_commit
from pipelines.stages import paths
from pipelines.stages.config import load_yaml
from pipelines.stages.lineage import processor

_DIGITS = 5


def record_of(root: Path, planned: GridCell, result: RunResult) -> dict[str, Any]:
    """The record of a cell whose stages have succeeded."""
    history = result.files.get(str(paths.HISTORY))
    rows = read_history(history) if history else []
    run = result.json(paths.RUN, {})
    precision = {"precision": run["precision"]} if "precision" in run else {}  # what `auto` stood for
    if planned.score == "validation":
        figures: dict[str, Any] = {"validation": _kept(rows, run.get("kept_epoch"))}
    else:
        metrics = result.metrics
        figures = {"validation": metrics.pop("validation", {}), "test": metrics}
    record = {
        **setting(planned),
        "experiment": {"name": result.name, "commit": result.rev},
        "mlflow_run": run.get("run_id", ""),
        "commit": base_commit(root),
        "data": _data(result.lock),
        "data_differences": len(result.json(paths.DOWNLOAD_REPORT, {}).get("differences", ())),
        "machine": {**_this_machine(), "trained_here": result.stages.get("train") == "run"},
        "training": _training_cost(planned.params, rows) | precision,
        "stages": {
            name: {"status": status, "seconds": round(result.seconds.get(name, 0.0), 1)}
            for name, status in result.stages.items()
        },
        "figures": figures,
        "history": _columns(rows),
    }
    if planned.reports:
        reports = result.json(paths.METRICS_REPORT, [])
        record["reports"] = [{k: v for k, v in report.items() if k != "cmc"} for report in reports]
    return record


def record_of_divergence(root: Path, planned: GridCell, error: DivergedError) -> dict[str, Any]:
    """The record of a cell whose training diverged: a result, not a failure."""
    rows = parse_history(error.history)
    return {
        **setting(planned),
        "commit": base_commit(root),
        "machine": {**_this_machine(), "trained_here": True},
        "training": _training_cost(planned.params, rows),
        "diverged": error.report["message"],
        "figures": {},
        "history": _columns(rows),
        "last_steps": _columns(error.report["last_steps"]),
    }


def setting(planned: GridCell) -> dict[str, Any]:
    """What makes a cell this cell; score, params and recipe decide whether it is finished."""
    return {
        "grid": planned.grid,
        "row": planned.row.name,
        "seed": planned.seed,
        "score": planned.score,
        "preset": planned.cell.preset,
        "overrides": dict(planned.cell.overrides),
        "params": planned.params,
        "recipe": RECIPE,
    }


def _this_machine() -> dict[str, Any]:
    """Cores, processor or GPU, and torch of this machine; nothing that names it."""
    return {"cores": settings.cores(), "device": processor(), "torch": version("torch")}


def _training_cost(params: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Epochs, steps and seconds of the training alone, from its history: a restored training took its time as well."""
    batch = params.get("train.batch.identities", 0) * params.get("train.batch.images", 0) * 2
    steps = params.get("train.steps_per_epoch", 0)
    speeds = [row["images_per_second"] for row in rows if row.get("images_per_second")]
    cost: dict[str, Any] = {"epochs": len(rows), "steps": steps * len(rows) or None, "seconds": None}
    if speeds and steps and batch:
        cost["seconds"] = round(sum(steps * batch / speed for speed in speeds), 1)
    return cost


def _columns(rows: Sequence[Mapping[str, float | None]]) -> dict[str, list[float | None]]:
    """Rows by column with five digits; None where a row lacks a figure. The machine's speed is left out."""
    names = dict.fromkeys(name for row in rows for name in row if name not in MACHINE_METRICS)
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


def _data(lock: str) -> dict[str, str]:
    """Digests of the raw images and of the data that the training read, by path."""
    stages = load_yaml(lock, source="dvc.lock")["stages"]
    deps = [(name, dep) for name, stage in stages.items() for dep in stage.get("deps", [])]
    return {
        dep["path"]: dep["md5"]
        for name, dep in deps
        if dep["path"].startswith("data/raw/") or (name == "train" and dep["path"].startswith("data/"))
    }
