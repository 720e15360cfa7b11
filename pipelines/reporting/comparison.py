"""Section: results beside the published ones."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msclnet.retrieval.protocol import INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED
from pipelines.regdb_summary import headline
from pipelines.reporting.beside import NOT_RUN, US, beside, our_row
from pipelines.reporting.document import Block, Heading, Items, Paragraph, Row, Section
from pipelines.reporting.literature import read_published
from pipelines.reporting.measured import conditions, measured_table, network_reports, percent
from pipelines.reporting.own import Own

Report = Mapping[str, Any]

TITLE = "Results beside the published ones"
SYSU_MM01 = {
    f"{mode}_{m}": (mode, m) for mode in ("all", "indoor") for m in ("rank1", "rank10", "rank20", "mAP")
}
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
    """The published figures for each data set with our own below, and what is odd in the paper's."""
    blocks: list[Block] = [
        Paragraph(
            "All figures are percentages. The published ones were printed by others and are no results of this "
            f"project; rows that begin with `{US}` were measured here, and say `{NOT_RUN}` where they were not. Ours "
            "stand beside published ones of the same data set and protocol, and of no other."
        ),
        *_run(own),
        *_sysu_mm01(own),
        *_regdb(own),
        Heading("LLCM"),
        *_alone(own, "llcm", "The paper has no figures for LLCM."),
        Heading("The synthetic data set"),
        *_alone(
            own,
            "synthetic",
            "Rendered people, made for this project. The figures show whether the pipeline learns across modalities. "
            "They say nothing about the data sets above and must not be read beside their tables.",
        ),
        Heading("What is odd in the paper's own numbers"),
        Items(ODDITIES),
    ]
    return Section(TITLE, blocks)


def _run(own: Own) -> list[Block]:
    if not own.reports:
        text = "Nothing was evaluated in this folder: run `dvc repro`, then write the report again."
        return [Paragraph(text, warning=True)]
    run = own.run
    words = [f"The model in this folder: data set `{own.dataset}`", own.setting]
    if run:
        words.append(f"{run['epochs']} epochs")
        words.append(f"MLflow experiment `{run['experiment']}`, run `{run['run_name']}`")
    blocks: list[Block] = [Paragraph(", ".join(words) + ".")]
    if own.differences:
        text = (
            f"Its images differ from the published data set in {own.differences} points "
            "(`results/download/report.json`): these are figures on other data than the published ones."
        )
        blocks.append(Paragraph(text, warning=True))
    return blocks


def _sysu_mm01(own: Own) -> list[Block]:
    reports = network_reports(own.reports) if own.dataset == "sysu-mm01" else []
    comparable = [report for report in reports if report["shots"] == 1 and not report["re_ranking"]]
    rows = [
        our_row(
            f"{US}, {_feature(by_mode)}",
            {name: percent(by_mode.get(mode, {}).get(m)) for name, (mode, m) in SYSU_MM01.items()},
            f"{own.setting}, {text}",
        )
        for text, by_mode in _grouped(comparable, by="mode").items()
    ]
    blocks = beside(
        "SYSU-MM01",
        read_published("sysu_mm01", columns=list(SYSU_MM01)),
        SYSU_MM01,
        rows,
        "SYSU-MM01: infrared queries, single-shot gallery. AGW* is the paper's own baseline, AGW with random erasing.",
    )
    others = [report for report in reports if report not in comparable]
    caption = "Ours by SYSU-MM01's other protocols; mean ± sample deviation over the trials."
    return [*blocks, measured_table(others, caption)] if others else blocks


def _regdb(own: Own) -> list[Block]:
    rows = [_summary_row(name, summary) for name, summary in own.regdb.items()]
    single = network_reports(own.reports) if own.dataset == "regdb" else []
    single = [report for report in single if not report["re_ranking"]]
    for text, by_direction in _grouped(single, by="direction").items():
        split = next(iter(by_direction.values()))["split"]
        figures = {
            column: percent(by_direction.get(direction, {}).get(metric), deviation=False)
            for column, (direction, metric) in REGDB.items()
        }
        words = f"no mean of ten splits, {own.setting}, {text}"
        rows.append(our_row(f"{US}, split {split} alone, {_feature(by_direction)}", figures, words))
    caption = "RegDB: mean of ten splits, a model for each. The direction is named by the query."
    return beside("RegDB", read_published("regdb", columns=list(REGDB)), REGDB, rows, caption)


def _summary_row(name: str, summary: Report) -> Row:
    """Our row of one summary over splits: the headline, without re-ranking."""
    ours = headline(summary)
    figures = {
        column: percent(ours.get(direction, {}).get(metric), unit=1)
        for column, (direction, metric) in REGDB.items()
    }
    splits = summary["splits"]
    over = (
        "ten splits"
        if len(splits) == 10
        else f"only {len(splits)} of ten splits: {', '.join(map(str, splits))}"
    )
    words = [f"mean ± sample deviation over {over}", f"preset {summary['preset']}"]
    if summary["overrides"]:
        words.append(f"with `{json.dumps(summary['overrides'])}`")
    if summary["data_differences"]:
        words.append(f"on images that differ from the published ones in {summary['data_differences']} points")
    return our_row(f"{US}, {name}", figures, ", ".join([*words, *map(conditions, list(ours.values())[:1])]))


def _feature(reports: Mapping[str, Report]) -> str:
    return next(iter(reports.values()))["feature"]


def _alone(own: Own, dataset: str, text: str) -> list[Block]:
    """A data set that has no published figures here."""
    if own.dataset != dataset:
        return [Paragraph(f"{text} Ours: {NOT_RUN}.")]
    return [Paragraph(text), measured_table(own.reports, "Ours; mean ± sample deviation over the trials.")]


def _grouped(reports: Sequence[Report], *, by: str) -> dict[str, dict[str, Report]]:
    """Conditions -> (mode or direction -> report)."""
    groups: dict[str, dict[str, Report]] = {}
    for report in reports:
        groups.setdefault(conditions(report), {})[report[by]] = report
    return groups
