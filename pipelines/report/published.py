"""Section: our results next to the published ones."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from msclnet.figures.style import INFRARED, NEUTRAL, RIGHT, SMALL_SIZE, new_figure, styled
from msclnet.retrieval.protocols import INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED
from pipelines.experiments.splits import headline
from pipelines.report.document import (
    MISSING,
    OURS,
    PAPER,
    PLAIN,
    Block,
    Heading,
    Items,
    Paragraph,
    Picture,
    Section,
    Table,
    picture,
)
from pipelines.report.results import Own, read_published
from pipelines.stages.scoring import REFERENCES, processing, protocol_name, trials

Report = Mapping[str, Any]
Columns = Mapping[str, tuple[str, str]]
"""Column of the published table -> its group (a mode or a direction) and its metric."""

US = "this project"
NOT_RUN = "not run"
NOT_PRINTED = "-"
METRICS = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "rank20": "Rank-20",
    "mAP": "mAP",
    "mINP": "mINP",
}
GROUPS = {
    "all": "all-search",
    "indoor": "indoor-search",
    VISIBLE_TO_INFRARED: "visible to infrared",
    INFRARED_TO_VISIBLE: "infrared to visible",
}
SYSU_MM01 = {
    f"{mode}_{m}": (mode, m) for mode in ("all", "indoor") for m in ("rank1", "rank10", "rank20", "mAP")
}
CHOSEN_ON_TEST = (
    "AGW's published 47.50 / 47.65 are its public code's best of up to 40 looks at the test set, on gallery trial 0. "
    "Ours are the mean over all trials of one epoch that the test set did not choose. The erasing of AGW* is in no "
    "public code; the preset `agw-star-sysu-mm01` has values of its own for it."
)
REGDB = {
    f"{short}_{metric}": (direction, metric)
    for short, direction in (("v2i", VISIBLE_TO_INFRARED), ("i2v", INFRARED_TO_VISIBLE))
    for metric in ("rank1", "mAP")
}
ODDITIES = (
    "Table 1 gives 76.99 Rank-1 at the chosen weights (0.5, 1.25, 0.8, 1.5). Figure 6 varies one weight at a time, "
    "these values lie inside its range, and yet its curves peak near 74.4.",
    "Section 4.3 calls 69.78 / 65.29 the result of the full model. Table 1 has these figures for synergy with cascaded "
    "aggregation, without the complement.",
    "Figure 5 calls the spread a variance and prints it as a sigma. Its mean distance between identities, 1.54, cannot "
    "be the mean over all pairs of L2-normalised features, which is at most about the square root of 2.",
    "Table 2 gives HSME a Rank-10 of 32.74 between a Rank-1 of 20.68 and a Rank-20 of 77.95: most likely a misprint.",
)


def comparison(own: Own) -> Section:
    """The published numbers on each data set with ours below, and what is odd in the paper's."""
    introduction = (
        "All figures are percentages. The published ones were printed by others and are no results of this project; "
        f"rows that begin with `{US}` were measured here, and say `{NOT_RUN}` where they were not. Ours are next to "
        "published ones of the same data set and protocol, and of no other."
    )
    synthetic = (
        "Rendered people, made for this project. The figures show whether the pipeline learns across modalities. They "
        "say nothing about the data sets above and must not be compared with their tables."
    )
    blocks = [
        Paragraph(introduction),
        *_run(own),
        *_sysu_mm01(own),
        *_regdb(own),
        Heading("LLCM"),
        *_alone(own, "llcm", "The paper has no figures for LLCM."),
        Heading("The synthetic data set"),
        *_alone(own, "synthetic", synthetic),
        Heading("Own images"),
        *_alone(own, "folder", "A user's own labelled images: nothing is published on them."),
        Heading("What is odd in the paper's own numbers"),
        Items(ODDITIES),
    ]
    return Section("Results next to the published ones", blocks)


def _run(own: Own) -> list[Block]:
    if not own.reports:
        text = "Nothing was evaluated in this folder: run `dvc repro`, then write the report again."
        return [Paragraph(text, warning=True)]
    words = [f"The model in this folder: data set `{own.dataset}`", own.setting]
    if own.run:
        words.append(f"{own.run['epochs']} epochs")
        words.append(f"MLflow experiment `{own.run['experiment']}`, run `{own.run['run_name']}`")
    blocks: list[Block] = [Paragraph(", ".join(words) + ".")]
    if own.differences:
        text = (
            f"Its images differ from the published data set in {own.differences} points "
            "(`results/download/report.json`): these are figures on other data than the published ones."
        )
        blocks.append(Paragraph(text, warning=True))
    return blocks


def _sysu_mm01(own: Own) -> list[Block]:
    reports = _network_reports(own) if own.dataset == "sysu-mm01" else []
    comparable = [report for report in reports if report["shots"] == 1 and not report["re_ranking"]]
    rows = [
        _our_row(_feature(by_mode), by_mode, SYSU_MM01, f"{own.setting}, {text}")
        for text, by_mode in _by_conditions(comparable, "mode").items()
    ]
    caption = "SYSU-MM01: infrared queries, single-shot gallery. AGW* is the paper's baseline, AGW with random erasing."
    blocks = [*next_to_published("SYSU-MM01", SYSU_MM01, rows, caption), Paragraph(CHOSEN_ON_TEST)]
    others = [report for report in reports if report not in comparable]
    caption = "Ours by SYSU-MM01's other protocols; mean ± sample deviation over the trials."
    return [*blocks, measured_table(others, caption)] if others else blocks


def _regdb(own: Own) -> list[Block]:
    rows = [_summary_row(name, summary) for name, summary in own.regdb.items()]
    single = _network_reports(own) if own.dataset == "regdb" else []
    single = [report for report in single if not report["re_ranking"]]
    for text, by_direction in _by_conditions(single, "direction").items():
        split = next(iter(by_direction.values()))["split"]
        words = f"no mean of ten splits, {own.setting}, {text}"
        name = f"split {split} alone, {_feature(by_direction)}"
        rows.append(_our_row(name, by_direction, REGDB, words, deviation=False))
    caption = "RegDB: mean of ten splits, a model for each. The direction is named by the query."
    return next_to_published("RegDB", REGDB, rows, caption)


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


def _alone(own: Own, dataset: str, text: str) -> list[Block]:
    """A data set without published numbers here."""
    if own.dataset != dataset:
        return [Paragraph(f"{text} Ours: {NOT_RUN}.")]
    return [Paragraph(text), measured_table(own.reports, "Ours; mean ± sample deviation over the trials.")]


def _network_reports(own: Own) -> list[Report]:
    """Reports of trained features, without the references that learn nothing."""
    return [report for report in own.reports if report["feature"] not in REFERENCES]


def _feature(reports: Mapping[str, Report]) -> str:
    return next(iter(reports.values()))["feature"]


def _by_conditions(reports: Sequence[Report], key: str) -> dict[str, dict[str, Report]]:
    """Conditions -> mode or direction (the key) -> report."""
    groups: dict[str, dict[str, Report]] = {}
    for report in reports:
        groups.setdefault(conditions(report), {})[report[key]] = report
    return groups


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


def measured_table(reports: Sequence[Report], caption: str) -> Table:
    """Every figure of the reports, one row per report."""
    rows = [
        {"Protocol": protocol_name(dict(report))}
        | {title: percent(report[metric]) for metric, title in METRICS.items()}
        | {"Conditions": conditions(report)}
        for report in reports
    ]
    return Table(pd.DataFrame(rows, index=[PLAIN] * len(rows)), caption, words=("Protocol", "Conditions"))


def _our_row(
    name: str, by_group: Mapping[str, Report], columns: Columns, source: str, **shown: Any
) -> dict[str, str]:
    """A row of ours; a figure without a report was not run."""
    figures = {
        column: percent(by_group.get(group, {}).get(metric), **shown) or NOT_RUN
        for column, (group, metric) in columns.items()
    }
    return {"method": f"{US}, {name}", "year": "", "venue": "", **figures, "source": source}


def next_to_published(
    title: str, columns: Columns, ours: Sequence[Mapping[str, str]], caption: str
) -> list[Block]:
    """The published rows, then ours or one row that was not run; as a table and as a picture."""
    published = read_published(title.lower().replace("-", "_"))
    published[list(columns)] = published[list(columns)].replace("", NOT_PRINTED)
    published.index = pd.Index([PAPER if name == "MSCLNet" else PLAIN for name in published["method"]])
    nothing = {"method": US, "year": "", "venue": "", **dict.fromkeys(columns, NOT_RUN), "source": ""}
    own = pd.DataFrame(ours or [nothing], index=[OURS] * len(ours) or [MISSING])
    frame = pd.concat([published, own])
    plot = dot_plot(title, frame, columns)
    titles = {"method": "Method", "year": "Year", "venue": "Venue", "source": "Source and conditions"}
    frame.columns = pd.MultiIndex.from_tuples(
        (GROUPS[columns[name][0]], METRICS[columns[name][1]]) if name in columns else ("", titles[name])
        for name in frame.columns
    )
    return [Heading(title), Table(frame, caption, words=("Method", "Venue", "Source and conditions")), plot]


@styled()
def dot_plot(title: str, frame: pd.DataFrame, columns: Columns) -> Picture:
    """Rank-1 (disc) and mAP (ring) of every method, one panel per mode or direction."""
    colours = {PLAIN: NEUTRAL, PAPER: INFRARED, OURS: RIGHT, MISSING: NEUTRAL}
    colour_of = [colours[kind] for kind in frame.index]
    groups = list(dict.fromkeys(group for group, _ in columns.values()))
    figure = new_figure(10, 1.2 + 0.23 * len(frame), title=title)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        place = {metric: name for name, (of, metric) in columns.items() if of == group}
        rank1, mean_ap = ([_number(cell) for cell in frame[place[metric]]] for metric in ("rank1", "mAP"))
        for height, (first, second, colour) in enumerate(zip(rank1, mean_ap, colour_of, strict=True)):
            axes.plot([first, second], [height, height], color=colour, linewidth=1, alpha=0.5)
            axes.plot(second, height, "o", color=colour, markerfacecolor="white", markersize=6)
            axes.plot(first, height, "o", color=colour, markersize=6)
        axes.set(title=GROUPS[group], xlim=(0, 100), xlabel="percent")
    years = frame["year"].where(frame.index != MISSING, NOT_RUN)
    names = [f"{name} {year}".strip() for name, year in zip(frame["method"], years, strict=True)]
    panels[0].set_yticks(range(len(names)), names, fontsize=SMALL_SIZE)
    panels[0].invert_yaxis()
    for label, kind in zip(panels[0].get_yticklabels(), frame.index, strict=True):
        label.set(color=colours[kind], fontweight="bold" if kind in (PAPER, OURS) else "normal")
    return picture(
        title.lower(),
        figure,
        description=f"{title}: Rank-1 and mAP of each method of the table above, by year",
        caption="Disc: Rank-1; ring: mAP. Orange: the paper's MSCLNet; green: this project, where it was run.",
    )


def _number(cell: str) -> float:
    """The mean in a cell such as `12.34 ± 0.56`; NaN, which is not drawn, where the cell holds words."""
    return float("nan") if cell in (NOT_RUN, NOT_PRINTED) else float(cell.split()[0])
