"""Section: our results next to the published ones."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msclnet.figures.style import DPI, INFRARED, NEUTRAL, RIGHT, SMALL_SIZE, new_figure, styled
from msclnet.retrieval.protocols import INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED
from pipelines.regdb_summary import headline
from pipelines.report.document import (
    Block,
    Column,
    Heading,
    Items,
    Kind,
    Paragraph,
    Picture,
    Row,
    Section,
    Table,
)
from pipelines.report.results import MSCLNET, Own, Published, read_published
from pipelines.stages.scoring import REFERENCES, processing, protocol_name, trials

# Our own figures as texts and tables, each with the conditions that it was measured under.

METRICS = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "rank20": "Rank-20",
    "mAP": "mAP",
    "mINP": "mINP",
}


def network_reports(reports: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The reports of trained features, without the references that learn nothing."""
    return [report for report in reports if report["feature"] not in REFERENCES]


def percent(value: Mapping[str, Any] | None, *, unit: float = 100, deviation: bool = True) -> str:
    """`12.34 ± 0.56`, or the mean alone where there is no deviation; empty for None.

    Args:
        value: `mean` and `std` (None: there is none).
        unit: What both are multiplied by to be percentages.
        deviation: Whether the deviation is shown.
    """
    if value is None:
        return ""
    mean = f"{unit * value['mean']:.2f}"
    return mean if value["std"] is None or not deviation else f"{mean} ± {unit * value['std']:.2f}"


def conditions(report: Mapping[str, Any]) -> str:
    """What a reader must know about a figure besides data set, mode, shots and direction."""
    sampler = f"gallery sampler {report['sampler']}, " if report["sampler"] else ""
    parts = [f"feature {report['feature']}, {sampler}{trials(dict(report))}", processing(dict(report))]
    if report.get("trained_in"):
        parts.append(f"trained in {report['trained_in']}")
    if embedding := report.get("embedding"):
        parts.append(f"embedded in {embedding['precision']} by {embedding['backend']}")
    return ", ".join(parts)


def measured_table(reports: Sequence[Mapping[str, Any]], caption: str) -> Table:
    """Every figure of the reports, one row a report."""
    figures = [Column(title, number=True) for title in METRICS.values()]
    rows = [
        Row([protocol_name(dict(r)), *(percent(r[metric]) for metric in METRICS), conditions(r)])
        for r in reports
    ]
    return Table([Column("Protocol"), *figures, Column("Conditions")], rows, caption)


# Rank-1 and mAP of many methods at a glance.

COLOURS: dict[Kind, str] = {"plain": NEUTRAL, "paper": INFRARED, "ours": RIGHT, "missing": NEUTRAL}


@dataclass(frozen=True)
class Method:
    """One method's Rank-1 and mAP in percent, None where there is none."""

    name: str
    rank1: float | None
    mAP: float | None
    kind: Kind


@dataclass(frozen=True)
class Panel:
    """One panel with its methods from top to bottom."""

    title: str
    methods: Sequence[Method]


@styled()
def dot_plot(title: str, panels: Sequence[Panel]) -> Picture:
    """Panels side by side over the same methods: Rank-1 as a disc, mAP as a ring.

    Args:
        title: The data set.
        panels: All with the same methods in the same order.
    """
    methods = panels[0].methods
    figure = new_figure(10, 1.2 + 0.23 * len(methods), title=title)
    axes_of = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(axes_of, panels, strict=True):
        for height, method in enumerate(panel.methods):
            colour = COLOURS[method.kind]
            if method.rank1 is not None and method.mAP is not None:
                axes.plot([method.rank1, method.mAP], [height, height], color=colour, linewidth=1, alpha=0.5)
            if method.mAP is not None:
                axes.plot(method.mAP, height, "o", color=colour, markerfacecolor="white", markersize=6)
            if method.rank1 is not None:
                axes.plot(method.rank1, height, "o", color=colour, markersize=6)
        axes.set(title=panel.title, xlim=(0, 100), xlabel="percent")
    axes_of[0].set_yticks(range(len(methods)), [method.name for method in methods], fontsize=SMALL_SIZE)
    axes_of[0].invert_yaxis()
    for label, method in zip(axes_of[0].get_yticklabels(), methods, strict=True):
        weight = "bold" if method.kind in ("paper", "ours") else "normal"
        label.set(color=COLOURS[method.kind], fontweight=weight)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return Picture(
        name=title.lower(),
        png=stream.getvalue(),
        description=f"{title}: Rank-1 and mAP of each method of the table above, by year",
        caption="Disc: Rank-1; ring: mAP. Orange: the paper's MSCLNet; green: this project, where it was run.",
    )


# Published figures on one data set with our own below: as a table, and at a glance.

Columns = Mapping[str, tuple[str, str]]
"""Column -> its group (a mode or a direction) and its metric."""

US = "this project"
NOT_RUN = "not run"
NOT_PRINTED = "-"
GROUPS = {
    "all": "all-search",
    "indoor": "indoor-search",
    VISIBLE_TO_INFRARED: "visible to infrared",
    INFRARED_TO_VISIBLE: "infrared to visible",
}
SHOWN_METRICS = {"rank1": "Rank-1", "rank10": "Rank-10", "rank20": "Rank-20", "mAP": "mAP"}


def our_row(name: str, figures: Mapping[str, str], conditions: str) -> Row:
    """A row of ours; an empty figure is one that was not run."""
    return Row([name, "", "", *(figure or NOT_RUN for figure in figures.values()), conditions], kind="ours")


def beside(
    title: str, published: Sequence[Published], columns: Columns, ours: Sequence[Row], caption: str
) -> list[Block]:
    """The published rows, then ours or one that says that nothing was run; and the same as a picture."""
    table_columns = [
        Column("Method"),
        Column("Year", number=True),
        Column("Venue"),
        *(Column(SHOWN_METRICS[metric], GROUPS[group], number=True) for group, metric in columns.values()),
        Column("Source and conditions"),
    ]
    rows = [
        Row(
            [p.method, str(p.year), p.venue, *(f or NOT_PRINTED for f in p.figures.values()), p.source],
            kind="paper" if p.method == MSCLNET else "plain",
        )
        for p in published
    ]
    rows += ours or [Row([US, "", "", *[NOT_RUN] * len(columns), ""], kind="missing")]
    panels = [_panel(group, columns, rows) for group in dict.fromkeys(group for group, _ in columns.values())]
    return [Heading(title), Table(table_columns, rows, caption), dot_plot(title, panels)]


def _panel(group: str, columns: Columns, rows: Sequence[Row]) -> Panel:
    place = {metric: i for i, (of, metric) in enumerate(columns.values(), start=3) if of == group}
    methods = [
        Method(
            name=f"{row.cells[0]} {NOT_RUN if row.kind == 'missing' else row.cells[1]}".strip(),
            rank1=_number(row.cells[place["rank1"]]),
            mAP=_number(row.cells[place["mAP"]]),
            kind=row.kind,
        )
        for row in rows
    ]
    return Panel(GROUPS[group], methods)


def _number(cell: str) -> float | None:
    """The mean in a cell such as `12.34 ± 0.56`; None where the cell is words."""
    return None if cell in (NOT_RUN, NOT_PRINTED) else float(cell.split()[0])


# Section: results beside the published ones.

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
