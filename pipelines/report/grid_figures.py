"""Pictures from the records: Rank-1 by seed, divergence, learning curves, and Figure 5 of the paper."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd

from msclnet.errors import UserError
from msclnet.figures.distances import DEFINITION, distance_figure, distance_statistics
from msclnet.figures.embeddings import embedding_figure, pick_identities, tsne
from msclnet.figures.style import (
    INFRARED,
    NEUTRAL,
    SMALL_SIZE,
    VISIBLE,
    new_figure,
    nothing_to_show,
    styled,
)
from pipelines.orchestration.dvc_files import output_files
from pipelines.orchestration.git import git
from pipelines.orchestration.workspace import cache_folder
from pipelines.report.document import (
    MISSING,
    OURS,
    PLAIN,
    Block,
    Paragraph,
    Picture,
    Section,
    Table,
    picture,
)
from pipelines.report.results import GridView, Record
from pipelines.stages import paths
from pipelines.stages.paths import read_arrays

CHANCE = {"random ranker": ":", "colour histogram": "--"}
LABELS = {"whole": "MSCLNet, the synergy reading", "B": "Baseline (AGW, random erasing)"}


def scored(record: Record) -> bool:
    """Whether a record has figures of the test identities: a grid may be judged on validation, a cell may diverge."""
    return bool(record.get("figures", {}).get("test"))


def headline(record: Record) -> dict[str, Any]:
    """The test figures by the first protocol, which is the headline."""
    return next(iter(record["figures"]["test"].values()))


@styled()
def rank1(view: GridView) -> Picture:
    """Rank-1 of both rows of the grid `baseline`: one bar up to the mean over the seeds, one dot per seed."""
    figure = new_figure(
        8.0,
        3.4,
        title="Rank-1 on the synthetic data set",
        caption="Bar: mean over seeds. Dot: one seed. Infrared queries, visible gallery, "
        f"{view.rows[0].params['download.synthetic.identities.test']} test identities, all-search, single-shot, "
        f"seeds {min(record['seed'] for record in view.records)} to {max(r['seed'] for r in view.records)}.",
    )
    axes = figure.subplots()
    first = [headline(record) for record in view.records if scored(record)]
    best = 1.0
    for place, row in enumerate(LABELS):
        values = np.array([headline(each)["mean"]["rank1"] for each in view.of(row) if scored(each)])
        if not len(values):
            axes.text(0.5, place, "not run", va="center", color=NEUTRAL, fontsize=SMALL_SIZE)
            continue
        best = max(best, values.max())
        axes.barh(place, values.mean(), height=0.62, color=VISIBLE, alpha=0.45)
        axes.scatter(values, np.full(len(values), place), s=26, color=VISIBLE, edgecolors="white", zorder=3)
        axes.annotate(
            f"{values.mean():.1f} %",
            (values.max(), place),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold",
        )
    for (label, line), name in zip(CHANCE.items(), ("random", "colour_histogram"), strict=True):
        chance = [protocol[name]["rank1"] for protocol in first if name in protocol]
        if chance:
            text = f"{label} {np.mean(chance):.1f} %"
            axes.axvline(float(np.mean(chance)), color=NEUTRAL, linestyle=line, linewidth=1.4, label=text)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    axes.set(xlim=(0, best * 1.18), xlabel="Rank-1 (% of queries)", ylim=(len(LABELS) - 0.4, -0.6))
    axes.set_yticks(range(len(LABELS)), list(LABELS.values()))
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return picture(
        "rank1",
        figure,
        description="Rank-1 of MSCLNet and of the baseline, each seed",
        caption="The README's picture: a copy of `results/report/rank1.png` is `docs/img/rank1.png`.",
    )


MOST_ACROSS = 3
FAR = 10  # times the norm of the baseline's feature, or a part of it
UNBOUNDED = -1.0  # the lowest of the bounded terms is minus Jensen-Shannon, at least - ln 2
RUNAWAY = 50  # times the smallest value

Values = npt.NDArray[np.float64]


def what_diverged(views: Sequence[GridView]) -> list[Block]:
    """A table and the curves of all trainings that diverged."""
    by_row: dict[tuple[str, str], list[tuple[Record, str]]] = {}
    for view in views:
        for record in view.records:
            if why := why_diverged(record, view.of(view.grid.baseline)):
                by_row.setdefault((record["grid"], record["row"]), []).append((record, why))
    if not by_row:
        run = any(view.run for view in views)
        return [
            Paragraph("No training of these grids diverged.") if run else Paragraph("Not run.", warning=True)
        ]
    rows = [
        {
            "Row": f"{grid}, {row}",
            "seeds": ", ".join(str(record["seed"]) for record, _ in own),
            "The first of these trainings": own[0][1],
        }
        for (grid, row), own in by_row.items()
    ]
    caption = (
        "A training that left the range in which it can recover was stopped. Others reached their end with a feature "
        f"{FAR} times as large or as small as the grid's baseline has, or with a loss term below {UNBOUNDED:g}, which "
        "no bounded form has: they are named as well."
    )
    return [
        Table(
            pd.DataFrame(rows, index=[PLAIN] * len(rows)), caption, ("Row", "The first of these trainings")
        ),
        curves_of_divergence([own[0][0] for own in by_row.values()]),
    ]


def why_diverged(record: Record, baseline: Sequence[Record]) -> str:
    """How a training left the range of a healthy one; empty where it did not."""
    if "diverged" in record:
        return record["diverged"].partition(". ")[0]
    last = {
        name: values[-1] for name, values in record["history"].items() if values and values[-1] is not None
    }
    found = [
        f"{name} = {value:.3g}"
        for name, value in last.items()
        if name.startswith("loss_") and value < UNBOUNDED
    ]
    norm = last.get("feature_norm")
    ends = [
        (each["history"].get("feature_norm") or [None])[-1] for each in baseline if "diverged" not in each
    ]
    usual = [end for end in ends if end is not None]
    if norm is not None and usual and not 1 / FAR <= norm / np.mean(usual) <= FAR:
        found.append(f"mean feature norm = {norm:.3g}, of the baseline {np.mean(usual):.3g}")
    return f"reached its end with {', '.join(found)}" if found else ""


@styled()
def curves_of_divergence(records: list[Record]) -> Picture:
    """Total loss and feature norm of each diverged training: its whole epochs, then its last steps one by one."""
    across = min(MOST_ACROSS, len(records))
    down = -(-len(records) // across)
    figure = new_figure(max(3.6 * across, 6.0), 2.6 * down + 0.9, title="Trainings that diverged")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, record in zip(panels, records, strict=False):
        axes.set_title(f"{record['row']}, seed {record['seed']}", fontsize=SMALL_SIZE, loc="left")
        epochs, steps = record["history"], record.get("last_steps", {})
        if not epochs.get("epoch") and not steps.get("step"):
            nothing_to_show(axes, "ended in its first epoch")
            axes.set(xticks=[], yticks=[])
            continue
        length = record["params"].get("train.steps_per_epoch") or 0
        if steps.get("step") and not length:  # it followed from the data, and the record does not say it
            epochs = {}
        twin = axes.twinx()
        for target, name, colour in ((axes, "total", VISIBLE), (twin, "feature_norm", INFRARED)):
            whole = _column(epochs, name, axis="epoch")
            last = _column(steps, name, axis="step")
            target.plot(*whole, color=colour, marker="o", markersize=3, linestyle="none" if steps else "-")
            target.plot(last[0] / (length or 1), last[1], color=colour, linewidth=1)
            target.set_ylabel(name.replace("_", " "), color=colour, fontsize=SMALL_SIZE)
            target.set_yscale(_scale(np.concatenate([whole[1], last[1]])))
        twin.grid(False)
        axes.set_xlabel("epoch" if epochs or length else "step", fontsize=SMALL_SIZE, color=NEUTRAL)
    for axes in panels[len(records) :]:
        axes.set_visible(False)
    return picture(
        "diverged",
        figure,
        description="Total loss and mean feature norm of trainings that diverged, by epoch",
        caption="Blue: total loss; orange: mean norm of the pooled feature. Dots: means over whole epochs; lines: the "
        "last steps before the training was stopped, where their record has them.",
    )


def _column(history: dict[str, list[float | None]], name: str, *, axis: str) -> tuple[Values, Values]:
    places = history.get(axis, [])
    values = [np.nan if v is None else v for v in history.get(name, [None] * len(places))]
    return np.asarray(places, float), np.asarray(values, float)


def _scale(values: Values) -> str:
    """Logarithmic where a runaway would flatten the values before it."""
    finite = values[np.isfinite(values)]
    if not len(finite) or np.abs(finite).max() < RUNAWAY * max(np.abs(finite).min(), 1e-6):
        return "linear"
    return "log" if finite.min() > 0 else "symlog"


MOST_ROWS = 8
MOST_CURVES_ACROSS = 4
# The rows that are shown first of a grid with many rows.
_FIRST = ("B", "MS", "CA", "MC", "MS-CA", "MS-MC", "whole", "default")


def learning_curves(views: Sequence[GridView]) -> Section:
    """Every loss term and the validation score of each grid that has a history."""
    blocks: list[Block] = [
        Paragraph(
            "Losses are unweighted, and each is shown for the rows that have it. L_div is negative by its definition."
        )
    ]
    pictures = [curves(view) for view in views if any(record["history"] for record in view.records)]
    return Section("Learning curves", blocks + (list(pictures) or [Paragraph("Not run.", warning=True)]))


@styled()
def curves(view: GridView) -> Picture:
    """One panel a term, one line a row: the mean over its seeds."""
    rows = [row.row for row in view.rows if any(r["history"] for r in view.of(row.row.name))]
    if len(rows) > MOST_ROWS:
        rows = sorted(rows, key=lambda row: row.name not in _FIRST)[:MOST_ROWS]
    means = {row.name: mean_history(view.of(row.name)) for row in rows}
    columns = list(dict.fromkeys(name for history in means.values() for name in history))
    terms = ["total", *(name for name in columns if name.startswith("loss_")), "val_score"]
    terms = [name for name in terms if name in columns]
    across = min(MOST_CURVES_ACROSS, len(terms))
    down = math.ceil(len(terms) / across)
    figure = new_figure(
        2.8 * across, 2.1 * down + 1.2, title=f"{view.grid.title}: loss terms and validation score"
    )
    panels = figure.subplots(down, across, squeeze=False).ravel()
    # Without its grey, which is B's here.
    colours = [matplotlib.colormaps["tab10"](place) for place in (0, 1, 2, 3, 4, 5, 6, 8, 9)]
    for axes, term in zip(panels, terms, strict=False):
        axes.set_title(term, fontsize=SMALL_SIZE, fontweight="bold", loc="left")
        for (name, history), colour in zip(means.items(), colours, strict=False):
            if term not in history:
                continue
            values = history[term]
            known = np.isfinite(values)
            colour = NEUTRAL if name == "B" else colour
            axes.plot(history["epoch"][known], values[known], color=colour, label=name, linewidth=1.4)
        axes.set_xlabel("epoch", fontsize=SMALL_SIZE)
    for axes in panels[len(terms) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    left_out = sum(1 for row in view.rows if view.of(row.row.name)) - len(rows)
    more = f" {left_out} further rows are in their records." if left_out > 0 else ""
    return picture(
        f"curves-{view.grid.name}",
        figure,
        description=f"Loss terms and validation score by epoch, rows of the grid {view.grid.name}",
        caption=f"`experiments/{view.grid.name}.yaml`: means over the seeds, by epoch.{more}",
    )


def mean_history(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Column -> mean over records of equal length, NaN where none has a figure; (epochs,)."""
    histories = [record["history"] for record in records if record["history"] and "diverged" not in record]
    if not histories:
        return {}
    epochs = min(len(history["epoch"]) for history in histories)
    found = {}
    for name in histories[0]:
        stacked = np.array(
            [
                [math.nan if v is None else v for v in history[name][:epochs]]
                for history in histories
                if name in history
            ]
        )
        counts = np.isfinite(stacked).sum(axis=0)
        sums = np.nansum(stacked, axis=0)
        found[name] = np.divide(sums, counts, out=np.full(epochs, math.nan), where=counts > 0)
    return found


PAPER_DISTANCES = {"baseline": (1.31, 1.54, 0.23, 0.095), "MSCLNet": (1.27, 1.53, 0.26, 0.088)}
PAIRS = (("baseline", "whole"), ("ablation", "whole"))  # grid, and its row of the whole method


def figure5(root: Path, views: list[GridView]) -> Section:
    """Baseline against MSCLNet, from two finished experiments whose embeddings are in this machine's DVC cache."""
    titles = ("mean intra", "mean inter", "gap", "spread of intra")
    rows: list[tuple[str, ...]] = [
        (PLAIN, "paper (its definition is unclear)", model, *(f"{value:g}" for value in values))
        for model, values in PAPER_DISTANCES.items()
    ]
    blocks: list[Block] = [
        Paragraph(
            "The paper calls its spread a variance and prints it as a sigma, and its mean distance between identities, "
            "1.54, cannot be the mean over all pairs of L2-normalised features. Ours are by our own definition: "
            + DEFINITION
        )
    ]
    pictures: list[Block] = []
    found = _find(root, views)
    if found is None:
        rows.append((MISSING, "this project", "both", *["not run"] * 4))
        text = (
            "Ours: no two finished experiments of the baseline and the whole have their embeddings in this machine's "
            "DVC cache. Run `msclnet grid baseline --seeds 0` and write the report again."
        )
        blocks.append(Paragraph(text, warning=True))
    else:
        words, arrays, perplexity = found
        statistics = {
            name: distance_statistics(each["bnneck"], each["identities"], each["infrared"])
            for name, each in arrays.items()
        }
        for name, s in statistics.items():
            values = (s.mean_intra, s.mean_inter, s.gap, s.std_intra)
            rows.append((OURS, f"this project ({words})", name, *(f"{value:.3f}" for value in values)))
        distances = picture(
            "figure5-distances",
            distance_figure(statistics),
            description="Distributions of cross-modality distances within and between identities, baseline and MSCLNet",
            caption="Test identities, BNNeck feature; means, gap and spread are in the table.",
        )
        pictures = [distances, *(_map(name, each, perplexity) for name, each in arrays.items())]
    caption = (
        "Distances between visible and infrared test images; the two halves of the table do not compare."
    )
    frame = pd.DataFrame([row[1:] for row in rows], columns=["Figures of", "Model", *titles])
    frame.index = pd.Index([row[0] for row in rows])
    table = Table(frame, caption, words=("Figures of", "Model"))
    return Section("Figure 5: features and distances", [*blocks, table, *pictures])


def _find(root: Path, views: list[GridView]) -> tuple[str, dict[str, dict[str, np.ndarray]], float] | None:
    for grid, whole in PAIRS:
        for view in (view for view in views if view.grid.name == grid and view.grid.score == "test"):
            for record in view.of(view.grid.baseline):
                other = next((r for r in view.of(whole) if r["seed"] == record["seed"]), None)
                base = _embeddings(root, record)
                best = _embeddings(root, other) if other is not None else None
                if base is not None and best is not None:
                    perplexity = float(view.rows[0].params.get("visualize.perplexity", 30.0))
                    return (
                        f"grid {grid}, seed {record['seed']}",
                        {"baseline": base, "MSCLNet": best},
                        perplexity,
                    )
    return None


def _embeddings(root: Path, record: Record) -> dict[str, np.ndarray] | None:
    """Test features of a record's experiment; None where its commit or the cached file is not on this machine."""
    try:
        lock = git(root, "cat-file", "blob", f"{record['experiment']['commit']}:dvc.lock")
    except (UserError, KeyError):
        return None
    files = output_files(lock, stages=["embed"], cache=cache_folder(root)) or {}
    path = files.get(str(paths.embeddings_of("test")))
    if path is None:
        return None
    return read_arrays(path, stage="embed")


def _map(name: str, arrays: dict[str, np.ndarray], perplexity: float) -> Picture:
    chosen = pick_identities(arrays["identities"], arrays["infrared"], count=16, seed=0)
    rows = np.isin(arrays["identities"], chosen)
    figure = embedding_figure(
        tsne(arrays["bnneck"][rows], seed=0, perplexity=perplexity),
        arrays["identities"][rows],
        arrays["infrared"][rows],
        title=f"{name}: features by identity and modality (t-SNE)",
    )
    return picture(
        f"figure5-{name.lower()}",
        figure,
        description=f"t-SNE of test features of {name}",
        caption=f"{name}: the same {len(chosen)} test identities in either map.",
    )
