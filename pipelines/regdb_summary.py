"""Means and deviations over RegDB's splits, as JSON and as a table."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msclnet.retrieval.protocols import INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED
from pipelines.regdb_finished import FinishedSplit

FOLDER = Path("results/regdb")
METRICS = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")
COLUMNS = {
    f"{short} {title}": (direction, metric)
    for direction, short in ((VISIBLE_TO_INFRARED, "V-I"), (INFRARED_TO_VISIBLE, "I-V"))
    for metric, title in (("rank1", "Rank-1"), ("mAP", "mAP"))
}
"""Column of the tables -> direction and metric. V-I: visible queries, infrared gallery."""
_LABELS = (
    "dataset",
    "mode",
    "shots",
    "sampler",
    "direction",
    "feature",
    "flip",
    "embedding",
    "re_ranking",
    "trials",
)


def summarise(
    splits: Sequence[FinishedSplit],
    *,
    name: str,
    preset: str,
    overrides: Mapping[str, Any],
    failed: Mapping[int, str],
) -> dict[str, Any]:
    """Mean and sample standard deviation (n - 1; null for a single split) over the splits, in percent.

    Args:
        splits: evaluated splits that differ in nothing but the split.
        name: what their experiments' names begin with.
        preset: as given by the user.
        overrides: as given by the user.
        failed: split -> message, of those that were asked for as well.

    Returns:
        A dict ready for JSON. `data_differences` counts the differences from the published data set. `results` has one
        entry for each direction, feature and re-ranking, with all labels and {`mean`, `std`, `per_split`} for each
        metric, `per_split` in the order of `splits`.
    """
    splits = sorted(splits, key=lambda split: split.split)
    by_labels: dict[str, list[dict[str, Any]]] = {}
    for split in splits:
        for report in split.reports:
            labels = {label: report.get(label) for label in _LABELS}
            by_labels.setdefault(json.dumps(labels), []).append(report)
    return {
        "dataset": "regdb",
        "name": name,
        "preset": preset,
        "overrides": dict(overrides),
        "unit": "percent; mean and sample standard deviation over the splits",
        "headline": splits[0].feature if splits else "",
        "splits": [split.split for split in splits],
        "failed": {str(split): message for split, message in failed.items()},
        "experiments": {str(s.split): {"name": s.name, "commit": s.commit} for s in splits},
        "data_differences": max((split.differences for split in splits), default=0),
        "results": [
            {**json.loads(labels), **{metric: _statistics(reports, metric) for metric in METRICS}}
            for labels, reports in by_labels.items()
        ],
    }


def headline(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Statistics of the headline's feature without re-ranking: direction -> entry of `results`."""
    return {
        result["direction"]: result
        for result in summary["results"]
        if result["feature"] == summary["headline"] and not result["re_ranking"]
    }


def rows_of(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The headline as a table: a row for each split, finished or failed, then mean and deviation."""
    chosen = headline(summary)
    columns = {
        title: chosen[direction][m] for title, (direction, m) in COLUMNS.items() if direction in chosen
    }
    rows = []
    for place, split in enumerate(summary["splits"]):
        figures = {title: f"{values['per_split'][place]:.2f}" for title, values in columns.items()}
        rows.append(
            {"split": str(split), **figures, "experiment": summary["experiments"][str(split)]["name"]}
        )
    empty = dict.fromkeys(columns, "")
    rows += [{"split": split, **empty, "experiment": "failed"} for split in summary["failed"]]
    rows.sort(key=lambda row: int(row["split"]))
    if columns:
        over = f"over {len(summary['splits'])} of 10 splits"
        for part, word in (("mean", "mean"), ("std", "deviation")):
            figures = {title: "" if v[part] is None else f"{v[part]:.2f}" for title, v in columns.items()}
            rows.append({"split": word, **figures, "experiment": over})
    return rows


def write_summary(root: Path, summary: Mapping[str, Any]) -> list[Path]:
    """Write results/regdb/<name>.json, and the headline as <name>.md.

    Returns:
        Both paths, relative to the project.
    """
    name = summary["name"]
    contents = {
        FOLDER / f"{name}.json": json.dumps(summary, indent=2) + "\n",
        FOLDER / f"{name}.md": _markdown(summary),
    }
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        unfinished = root / path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_text(content, encoding="utf-8")
        unfinished.replace(root / path)
    return list(contents)


def _markdown(summary: Mapping[str, Any]) -> str:
    titles = ["split", *COLUMNS, "experiment"]
    lines = [titles, ["---", *["---:"] * len(COLUMNS), "---"]]
    lines += [[row.get(title, "") for title in titles] for row in rows_of(summary)]
    mirrored = any(result["flip"] for result in headline(summary).values())
    notes = (
        f"Preset `{summary['preset']}`, overrides `{json.dumps(summary['overrides'])}`. Feature "
        f"`{summary['headline']}`, mirror images {'averaged' if mirrored else 'not used'}, no re-ranking. Percent; one "
        "model for each split, scored on that split alone; V-I has visible queries and an infrared gallery; the "
        "deviation is the sample standard deviation over the splits.",
        f"All metrics and features are in `{summary['name']}.json`, re-ranked results among them where there are any.",
    )
    if summary["data_differences"]:
        notes += (f"The images differ from the published data set in {summary['data_differences']} points.",)
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join((f"# RegDB: {summary['name']}", table, *notes)) + "\n"


def _statistics(reports: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    values = 100 * np.array([report[metric]["mean"] for report in reports])
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"mean": float(values.mean()), "std": std, "per_split": values.tolist()}
