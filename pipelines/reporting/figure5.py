"""Section: Figure 5 of the paper, features and distances of the baseline and of the whole side by side."""

from pathlib import Path
from typing import Any

import numpy as np

from msclnet.errors import UserError
from msclnet.visualization.distance_figure import distance_figure
from msclnet.visualization.distances import DEFINITION, DistanceStatistics, distance_statistics
from msclnet.visualization.embedding_figure import embedding_figure
from msclnet.visualization.embedding_map import pick_identities, tsne
from pipelines import places
from pipelines.array_archive import read_arrays
from pipelines.orchestration.git import git
from pipelines.orchestration.project import output_files
from pipelines.orchestration.slots import cache_folder
from pipelines.reporting.document import Block, Column, Paragraph, Row, Section, Table
from pipelines.reporting.grid_view import GridView, Record
from pipelines.reporting.pictures import picture

TITLE = "Figure 5: features and distances"
PAPER = {"baseline": (1.31, 1.54, 0.23, 0.095), "MSCLNet": (1.27, 1.53, 0.26, 0.088)}
PAIRS = (("baseline", "whole"), ("ablation", "whole"))  # grid, and its row of the whole method


def figure5(root: Path, views: list[GridView]) -> Section:
    """Baseline against MSCLNet, from two finished experiments whose embeddings are in this machine's DVC cache."""
    columns = [Column("Figures of"), Column("Model")]
    columns += [Column(name, number=True) for name in ("mean intra", "mean inter", "gap", "spread of intra")]
    rows = [
        Row(["paper (its definition is unclear)", model, *(f"{value:g}" for value in values)])
        for model, values in PAPER.items()
    ]
    found = _find(root, views)
    blocks: list[Block] = [
        Paragraph(
            "The paper calls its spread a variance and prints it as a sigma, and its mean distance between identities, "
            "1.54, cannot be the mean over all pairs of L2-normalised features. Ours are by our own definition: "
            + DEFINITION
        )
    ]
    pictures: list[Block] = []
    if found is None:
        rows.append(Row(["this project", "both", *["not run"] * 4], kind="missing"))
        text = (
            "Ours: no two finished experiments of the baseline and the whole have their embeddings in this machine's "
            "DVC cache. Run `python -m pipelines.flows grid baseline --seeds 0` and write the report again."
        )
        blocks.append(Paragraph(text, warning=True))
    else:
        words, arrays, perplexity = found
        statistics = {name: _distances(each) for name, each in arrays.items()}
        rows += [
            Row(
                [
                    f"this project ({words})",
                    name,
                    *(f"{v:.3f}" for v in (s.mean_intra, s.mean_inter, s.gap, s.std_intra)),
                ],
                kind="ours",
            )
            for name, s in statistics.items()
        ]
        pictures = [_distance_picture(statistics), *_maps(arrays, perplexity)]
    caption = (
        "Distances between visible and infrared test images; the two halves of the table do not compare."
    )
    return Section(TITLE, [*blocks, Table(columns, rows, caption), *pictures])


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
    path = files.get(str(places.embeddings_of("test")))
    if path is None:
        return None
    return read_arrays(path, stage="embed")


def _distances(arrays: dict[str, np.ndarray]) -> DistanceStatistics:
    return distance_statistics(arrays["bnneck"], arrays["identities"], arrays["infrared"])


def _distance_picture(statistics: dict[str, DistanceStatistics]) -> Any:
    return picture(
        "figure5-distances",
        distance_figure(statistics),
        description="Distributions of cross-modality distances within and between identities, baseline and MSCLNet",
        caption="Test identities, BNNeck feature; means, gap and spread are in the table.",
    )


def _maps(arrays: dict[str, dict[str, np.ndarray]], perplexity: float) -> list[Any]:
    pictures = []
    for name, each in arrays.items():
        chosen = pick_identities(each["identities"], each["infrared"], count=16, seed=0)
        rows = np.isin(each["identities"], chosen)
        points = tsne(each["bnneck"][rows], seed=0, perplexity=perplexity)
        figure = embedding_figure(
            points,
            each["identities"][rows],
            each["infrared"][rows],
            title=f"{name}: features by identity and modality (t-SNE)",
        )
        pictures.append(
            picture(
                f"figure5-{name.lower()}",
                figure,
                description=f"t-SNE of test features of {name}",
                caption=f"{name}: the same {len(chosen)} test identities in either map.",
            )
        )
    return pictures
