"""Means and deviations over RegDB's ten splits, each the row of a grid: every metric of every feature."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from msclnet.files import replaced_file
from pipelines.experiments.results import records_file
from pipelines.experiments.statistics import DIRECTIONS, spread
from pipelines.stages.scoring import METRICS

FOLDER = Path("results/regdb")
COLUMNS = {
    f"{short} {title}": (direction, metric)
    for direction, short in DIRECTIONS.items()
    for metric, title in (("rank1", "Rank-1"), ("mAP", "mAP"))
}
"""Column of the table -> direction and metric."""
_LABELS = (
    *("dataset", "mode", "shots", "sampler", "direction"),
    *("feature", "flip", "embedding", "re_ranking", "trials"),
)


def summarise(
    records: Sequence[Mapping[str, Any]],
    name: str,
    *,
    preset: str,
    overrides: Mapping[str, Any],
    failed: Mapping[str, str],
) -> dict[str, Any]:
    """Mean and sample standard deviation (n - 1; null for a single split) over the splits, in percent.

    A model is scored on the test images of its own split: each split is a whole run of the pipeline. Several seeds of
    one split count as one model, with the mean of their figures.

    Returns:
        A dict ready for JSON. `data_differences` counts the differences from the published data set. `results` has one
        entry for each direction, feature and re-ranking, with all labels and {`mean`, `std`, `per_split`} for each
        metric, `per_split` in the order of `splits`.
    """
    by_split: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        if record.get("reports") and record["params"].get("download.dataset") == "regdb":
            by_split.setdefault(_split(record, name), []).append(record)
    by_split = dict(sorted(by_split.items()))
    by_labels: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
    for split, own in by_split.items():
        for report in (report for record in own for report in record["reports"]):
            labels = json.dumps({label: report.get(label) for label in _LABELS})
            by_labels.setdefault(labels, {}).setdefault(split, []).append(report)
    first = {split: own[0] for split, own in by_split.items()}
    return {
        "dataset": "regdb",
        "name": name,
        "preset": preset,
        "overrides": dict(overrides),
        "unit": "percent; mean and sample standard deviation over the splits",
        "headline": next((record["params"]["evaluate.feature"] for record in first.values()), ""),
        "splits": list(first),
        "failed": dict(failed),
        "experiments": {str(split): record["experiment"] for split, record in first.items()},
        "data_differences": max((record.get("data_differences", 0) for record in first.values()), default=0),
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


def write_summary(root: Path, summary: Mapping[str, Any]) -> list[Path]:
    """Write results/regdb/<name>.json, and the headline as <name>.md; returns both paths, relative to the project."""
    contents = {".json": json.dumps(summary, indent=2) + "\n", ".md": _markdown(summary)}
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    written = []
    for ending, content in contents.items():
        written.append(FOLDER / f"{summary['name']}{ending}")
        with replaced_file(root / written[-1]) as unfinished:
            unfinished.write_text(content, encoding="utf-8")
    return written


def _split(record: Mapping[str, Any], name: str) -> int:
    split = record["params"]["preprocess.regdb_split"]
    for report in record["reports"]:
        if (report["dataset"], report["split"]) != ("regdb", split):
            raise UserError(
                f"{records_file(name)}: the reports of row {record['row']}, seed {record['seed']} are of "
                f"{report['dataset']}, split {report['split']}, and not of regdb, split {split}: remove this line and "
                "start again"
            )
    return split


def _statistics(by_split: Mapping[int, Sequence[Mapping[str, Any]]], metric: str) -> dict[str, Any]:
    values = [
        spread([100 * report[metric]["mean"] for report in reports]).mean for reports in by_split.values()
    ]
    mean, std, _ = spread(values)
    return {"mean": mean, "std": std, "per_split": values}


def _markdown(summary: Mapping[str, Any]) -> str:
    chosen = headline(summary)
    columns = [chosen[direction][metric] for direction, metric in COLUMNS.values()]
    lines = [["split", *COLUMNS, "experiment"], ["---", *["---:"] * len(COLUMNS), "---"]]
    for place, split in enumerate(summary["splits"]):
        figures = [f"{column['per_split'][place]:.2f}" for column in columns]
        lines.append([str(split), *figures, summary["experiments"][str(split)]["name"]])
    for part, word in (("mean", "mean"), ("std", "deviation")):
        figures = ["" if column[part] is None else f"{column[part]:.2f}" for column in columns]
        lines.append([word, *figures, f"over {len(summary['splits'])} of 10 splits"])
    mirrored = any(result["flip"] for result in chosen.values())
    notes = [
        f"Preset `{summary['preset']}`, overrides `{json.dumps(summary['overrides'])}`. Feature "
        f"`{summary['headline']}`, mirror images {'averaged' if mirrored else 'not used'}, no re-ranking. Percent; one "
        "model for each split, scored on that split alone; V-I has visible queries and an infrared gallery; the "
        "deviation is the sample standard deviation over the splits.",
        f"All metrics and features are in `{summary['name']}.json`, re-ranked results among them where there are any.",
    ]
    if summary["failed"]:
        notes.append(f"Failed: {', '.join(summary['failed'])}.")
    if summary["data_differences"]:
        notes.append(
            f"The images differ from the published data set in {summary['data_differences']} points."
        )
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join((f"# RegDB: {summary['name']}", table, *notes)) + "\n"
