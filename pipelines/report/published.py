"""Tables and pictures of our results next to the published ones."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from msclnet.figures.style import INFRARED, NEUTRAL, RIGHT, SMALL_SIZE, new_figure, styled
from msclnet.retrieval.evaluation import RANKS
from msclnet.retrieval.protocols import INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED
from pipelines.experiments.splits import headline
from pipelines.report.results import MISSING, NOT_RUN, OURS, PAPER, PLAIN, US, Own, read_published
from pipelines.stages.scoring import REFERENCES, processing, protocol_name, trials

Report = Mapping[str, Any]
Columns = Mapping[str, tuple[str, str]]
"""Column of the published table -> its group (a mode or a direction) and its metric."""

NOT_PRINTED = "-"
METRICS = {f"rank{k}": f"Rank-{k}" for k in RANKS} | {"mAP": "mAP", "mINP": "mINP"}
GROUPS = {
    "all": "all-search",
    "indoor": "indoor-search",
    VISIBLE_TO_INFRARED: "visible to infrared",
    INFRARED_TO_VISIBLE: "infrared to visible",
}
SYSU_MM01 = {
    f"{mode}_{m}": (mode, m) for mode in ("all", "indoor") for m in ("rank1", "rank10", "rank20", "mAP")
}
REGDB = {
    f"{short}_{metric}": (direction, metric)
    for short, direction in (("v2i", VISIBLE_TO_INFRARED), ("i2v", INFRARED_TO_VISIBLE))
    for metric in ("rank1", "mAP")
}
SOURCE = "Source and conditions"


def sysu_mm01(own: Own) -> pd.DataFrame:
    """The published figures on SYSU-MM01, then ours by the protocol of those."""
    rows = [
        _our_row(_feature(by_mode), by_mode, SYSU_MM01, f"{own.setting}, {text}")
        for text, by_mode in _by_conditions(_as_published(own), "mode").items()
    ]
    return _next_to_published("sysu_mm01", SYSU_MM01, rows)


def sysu_mm01_others(own: Own) -> pd.DataFrame:
    """Ours by the other protocols of SYSU-MM01; empty where there are none."""
    return measured([report for report in _ours(own, "sysu-mm01") if report not in _as_published(own)])


def regdb(own: Own) -> pd.DataFrame:
    """The published figures on RegDB, then ours: means over splits, and the split in this folder."""
    rows = [_summary_row(name, summary) for name, summary in own.regdb.items()]
    single = [report for report in _ours(own, "regdb") if not report["re_ranking"]]
    for text, by_direction in _by_conditions(single, "direction").items():
        split = next(iter(by_direction.values()))["split"]
        words = f"no mean of ten splits, {own.setting}, {text}"
        name = f"split {split} alone, {_feature(by_direction)}"
        rows.append(_our_row(name, by_direction, REGDB, words, deviation=False))
    return _next_to_published("regdb", REGDB, rows)


def measured(reports: Sequence[Report]) -> pd.DataFrame:
    """Every figure of the reports, one row per report."""
    rows = [
        {"Protocol": protocol_name(dict(report))}
        | {title: percent(report[metric]) for metric, title in METRICS.items()}
        | {"Conditions": conditions(report)}
        for report in reports
    ]
    return pd.DataFrame(rows, index=[PLAIN] * len(rows))


@styled()
def dot_plot(title: str, frame: pd.DataFrame) -> Figure:
    """Rank-1 (disc) and mAP (ring) of every method, one panel per mode or direction."""
    colours = {PLAIN: NEUTRAL, PAPER: INFRARED, OURS: RIGHT, MISSING: NEUTRAL}
    groups = [column.removesuffix(" Rank-1") for column in frame if column.endswith(" Rank-1")]
    figure = new_figure(10, 1.2 + 0.23 * len(frame), title=title)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        for height, (kind, row) in enumerate(zip(frame.index, frame.to_dict("records"), strict=True)):
            colour = colours[kind]
            first, second = (_number(row[f"{group} {metric}"]) for metric in ("Rank-1", "mAP"))
            axes.plot([first, second], [height, height], color=colour, linewidth=1, alpha=0.5)
            axes.plot(second, height, "o", color=colour, markerfacecolor="white", markersize=6)
            axes.plot(first, height, "o", color=colour, markersize=6)
        axes.set(title=group, xlim=(0, 100), xlabel="percent")
    years = frame["Year"].where(frame.index != MISSING, NOT_RUN)
    names = [f"{name} {year}".strip() for name, year in zip(frame["Method"], years, strict=True)]
    panels[0].set_yticks(range(len(names)), names, fontsize=SMALL_SIZE)
    panels[0].invert_yaxis()
    for label, kind in zip(panels[0].get_yticklabels(), frame.index, strict=True):
        label.set(color=colours[kind], fontweight="bold" if kind in (PAPER, OURS) else "normal")
    return figure


def percent(value: Report | None, *, unit: float = 100, deviation: bool = True) -> str:
    """`12.34 ± 0.56`, or the mean alone; empty for None. `unit` is the factor to percentages."""
    if value is None:
        return ""
    mean = f"{unit * value['mean']:.2f}"
    return mean if value["std"] is None or not deviation else f"{mean} ± {unit * value['std']:.2f}"


def conditions(report: Report) -> str:
    """The conditions of a figure apart from data set, mode, shots and direction."""
    sampler = f"gallery sampler {report['sampler']}, " if report["sampler"] else ""
    parts = [f"feature {report['feature']}, {sampler}{trials(dict(report))}", processing(dict(report))]
    if embedding := report.get("embedding"):
        parts.append(f"embedded in {embedding['precision']} by {embedding['backend']}")
    if report.get("trained_in"):
        parts.append(f"trained in {report['trained_in']}")
    return ", ".join(parts)


def _ours(own: Own, dataset: str) -> list[Report]:
    """Reports of trained features on a data set, without the references that learn nothing."""
    reports = (report for report in own.reports if report["dataset"] == dataset)
    return [report for report in reports if report["feature"] not in REFERENCES]


def _as_published(own: Own) -> list[Report]:
    reports = _ours(own, "sysu-mm01")
    return [report for report in reports if report["shots"] == 1 and not report["re_ranking"]]


def _summary_row(name: str, summary: Report) -> dict[str, str]:
    """Our row of one summary over splits: the headline, without re-ranking."""
    ours, splits = headline(summary), summary["splits"]
    listed = ", ".join(map(str, splits))
    over = "ten splits" if len(splits) == 10 else f"only {len(splits)} of ten splits: {listed}"
    words = [f"mean ± sample deviation over {over}", f"preset {summary['preset']}"]
    if summary["overrides"]:
        words.append(f"with `{json.dumps(summary['overrides'])}`")
    if summary["data_differences"]:
        words.append(f"on images that differ from the published ones in {summary['data_differences']} points")
    words += map(conditions, list(ours.values())[:1])
    return _our_row(name, ours, REGDB, ", ".join(words), unit=1)


def _feature(reports: Mapping[str, Report]) -> str:
    return next(iter(reports.values()))["feature"]


def _by_conditions(reports: Sequence[Report], key: str) -> dict[str, dict[str, Report]]:
    """Conditions -> mode or direction (the key) -> report."""
    groups: dict[str, dict[str, Report]] = {}
    for report in reports:
        groups.setdefault(conditions(report), {})[report[key]] = report
    return groups


def _our_row(
    name: str, by_group: Mapping[str, Report], columns: Columns, source: str, **shown: Any
) -> dict[str, str]:
    """A row of ours; a figure without a report was not run."""
    figures = {
        column: percent(by_group.get(group, {}).get(metric), **shown) or NOT_RUN
        for column, (group, metric) in columns.items()
    }
    return {"method": f"{US}, {name}", "year": "", "venue": "", **figures, "source": source}


def _next_to_published(dataset: str, columns: Columns, ours: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """The published rows, then ours or one row that was not run; the index says whose a row is."""
    published = read_published(dataset)
    published[list(columns)] = published[list(columns)].replace("", NOT_PRINTED)
    published.index = pd.Index([PAPER if name == "MSCLNet" else PLAIN for name in published["method"]])
    nothing = {"method": US, "year": "", "venue": "", **dict.fromkeys(columns, NOT_RUN), "source": ""}
    own = pd.DataFrame(ours or [nothing], index=[OURS] * len(ours) or [MISSING])
    titles = {name: f"{GROUPS[group]} {METRICS[metric]}" for name, (group, metric) in columns.items()}
    titles |= {"method": "Method", "year": "Year", "venue": "Venue", "source": SOURCE}
    return pd.concat([published, own]).rename(columns=titles)


def _number(cell: str) -> float:
    """The mean in a cell such as `12.34 ± 0.56`; NaN, which is not drawn, where the cell holds words."""
    return float("nan") if cell in (NOT_RUN, NOT_PRINTED) else float(cell.split()[0])
