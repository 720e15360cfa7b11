"""Finished splits of RegDB, read back from their experiments: their reports, and what they were made of."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.orchestration import experiments
from pipelines.orchestration.git import base_commit, git
from pipelines.orchestration.overrides import flatten
from pipelines.orchestration.project import output_files
from pipelines.orchestration.slots import cache_folder
from pipelines.stages import paths
from pipelines.stages.config import load_yaml

SPLITS = tuple(range(1, 11))
SPLIT_KEY = "preprocess.regdb_split"
REPORT = paths.METRICS_REPORT.as_posix()
VERIFICATION = paths.DOWNLOAD_REPORT.as_posix()


@dataclass(frozen=True)
class FinishedSplit:
    """A split's experiment.

    Attributes:
        split: its number.
        name: the experiment's name.
        commit: the experiment's commit.
        feature: the headline's feature; empty where it was not evaluated.
        reports: contents of results/metrics/report.json; empty where it was not evaluated.
        ingredients: all that its figures come from, the split's number left out: code and data by digest,
            parameters by dotted key, commands by stage.
        differences: how many differences from the published counts the data have.
    """

    split: int
    name: str
    commit: str
    feature: str
    reports: list[dict[str, Any]]
    ingredients: dict[str, Any]
    differences: int = 0

    def differs_from(self, other: "FinishedSplit") -> list[str]:
        """What the two were not made of alike: paths, parameters, commands."""
        both = {**self.ingredients, **other.ingredients}
        return [key for key in both if self.ingredients.get(key) != other.ingredients.get(key)]


def experiment_name(name: str, split: int) -> str:
    """Name of one split's experiment, for example `regdb-split3`."""
    return f"{name}-split{split}"


def read_split(root: Path, split: int, *, name: str, rev: str, stages: Sequence[str]) -> FinishedSplit:
    """Read an experiment back from git and the DVC cache.

    Args:
        root: the project.
        split: its number.
        name: the experiment's name.
        rev: its commit.
        stages: the stages that it has brought up to date.

    Raises:
        UserError: its report is of another split or data set.
    """
    lock = git(root, "cat-file", "blob", f"{rev}:dvc.lock")
    ingredients = _ingredients(lock, stages)
    files = output_files(lock, stages=stages, cache=cache_folder(root)) or {}
    reports = json.loads(files[REPORT].read_bytes()) if REPORT in files else []
    for report in reports:
        if (report["dataset"], report["split"]) != ("regdb", split):
            raise UserError(
                f"the report of {name} is labelled {report['dataset']}, split {report['split']}, and not regdb, "
                f"split {split}: remove it with `dvc exp remove {name}` and start again"
            )
    verification = json.loads(files[VERIFICATION].read_bytes()) if VERIFICATION in files else {}
    return FinishedSplit(
        split=split,
        name=name,
        commit=rev,
        feature=ingredients["evaluate.feature"] if reports else "",
        reports=reports,
        ingredients=ingredients,
        differences=len(verification.get("differences", ())),
    )


def earlier_splits(
    root: Path, name: str, *, like: FinishedSplit, without: Collection[int]
) -> list[FinishedSplit]:
    """Splits that former runs have evaluated and that share everything but the split with `like`.

    Args:
        root: the project.
        name: what the experiments' names begin with.
        like: what they are compared with.
        without: splits to leave out.
    """
    found = []
    for split in (split for split in SPLITS if split not in without):
        saved = experiments.find(root, base_commit(root), experiment_name(name, split))
        # One that somebody else has saved under such a name lists no stages.
        if saved is not None and saved.record.stages:
            record = saved.record
            earlier = read_split(root, split, name=record.name, rev=saved.rev, stages=record.stages)
            if earlier.reports and not earlier.differs_from(like):
                found.append(earlier)
    return found


def _ingredients(lock: bytes, stages: Sequence[str]) -> dict[str, Any]:
    """What dvc.lock says the stages up to the report were made of, apart from what one of them made for another."""
    entries: Mapping[str, Any] = load_yaml(lock, source="dvc.lock")["stages"]
    made: set[str] = set()
    found: dict[str, Any] = {}
    for name in stages:
        if REPORT in made:  # pictures, say, change no figure
            break
        entry = entries[name]
        made |= {out["path"] for out in entry.get("outs", [])}
        found[f"the command of {name}"] = entry["cmd"]
        found |= {dep["path"]: dep for dep in entry.get("deps", []) if dep["path"] not in made}
        for values in entry.get("params", {}).values():
            found |= flatten(values)
    found.pop(SPLIT_KEY, None)
    return found
