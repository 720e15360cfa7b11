"""What was measured in this project: the working tree's own run, and the summaries over RegDB's splits."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines import places
from pipelines.config import read_yaml
from pipelines.orchestration.overrides import flatten
from pipelines.regdb_summary import FOLDER

_TRAINED_FROM = ("augment", "model", "synergy", "loss", "train")


@dataclass(frozen=True)
class Own:
    """Our results.

    Attributes:
        reports: Contents of results/metrics/report.json, shares from 0 to 1; empty where nothing was evaluated.
        run: Contents of results/train/run.json; empty where it is not there.
        setting: What the model was trained by, in words, for example `preset synthetic, seed 0`.
        differences: How many differences from the published counts the data had.
        regdb: Summaries over RegDB's splits, in percent, by name.
    """

    reports: list[dict[str, Any]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    setting: str = ""
    differences: int = 0
    regdb: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """Name of the working tree's data set; empty where nothing was evaluated."""
        return self.reports[0]["dataset"] if self.reports else ""


def read_own(root: Path) -> Own:
    """Read what there is; what was not run is empty.

    Args:
        root: The project.

    Raises:
        UserError: A file is damaged.
    """
    verification = _read(root, places.DOWNLOAD_REPORT, "dvc repro --force download") or {}
    summaries = {}
    for path in sorted((root / FOLDER).glob("*.json"), key=lambda path: path.stem):
        place = path.relative_to(root)
        summaries[path.stem] = _read(root, place, "python -m pipelines.flows regdb")
        if not isinstance(summaries[path.stem], dict) or "splits" not in summaries[path.stem]:
            raise UserError(f"{place} is no summary over RegDB's splits: move it to another folder")
    return Own(
        reports=_read(root, places.METRICS_REPORT, "dvc repro --force evaluate") or [],
        run=_read(root, places.RUN, "dvc repro --force train") or {},
        setting=_setting(root),
        differences=len(verification.get("differences", ())),
        regdb=summaries,
    )


def _read(root: Path, path: Path, remedy: str) -> Any:
    try:
        return json.loads((root / path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): write it again with `{remedy}`") from error


def _setting(root: Path) -> str:
    """Which preset the training's parameters are those of: a baseline's figures must not pass for MSCLNet's.

    From dvc.lock, which holds the parameters of the results; params.yaml may have been edited since.
    """
    lock = root / "dvc.lock"
    stages = (read_yaml(lock) or {}).get("stages", {}) if lock.is_file() else {}
    entry = stages.get("train")
    if entry is None:
        return "preset unknown, for there is no dvc.lock with the training"
    trained: dict[str, Any] = entry["params"][places.PARAMS.name]
    seed = f"seed {trained.get('seed')}"
    for preset in sorted((root / "presets").glob("*.yaml")):
        values = read_yaml(preset)
        dataset = values["download"]["dataset"]
        alike = all(flatten(trained[name]) == flatten(values[name]) for name in _TRAINED_FROM)
        if alike and dataset == trained["download.dataset"]:
            return f"preset {preset.stem}, {seed}"
    return f"parameters of no preset, {seed}"
