"""Figure 5 of the paper: baseline against MSCLNet, from two experiments with embeddings in this machine's DVC cache."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from msclnet.errors import UserError
from msclnet.figures.distances import DistanceStatistics, distance_figure, distance_statistics
from msclnet.figures.embeddings import embedding_figure, pick_identities, tsne
from pipelines.orchestration.dvc_files import output_files
from pipelines.orchestration.workspace import cache_folder, git
from pipelines.report.results import MISSING, NOT_RUN, OURS, PLAIN, US, GridView, Record
from pipelines.stages import paths

Arrays = dict[str, np.ndarray]

PAPER = {"baseline": (1.31, 1.54, 0.23, 0.095), "MSCLNet": (1.27, 1.53, 0.26, 0.088)}
PAIRS = (("baseline", "whole"), ("ablation", "whole"))  # grid, and its row of the whole method
COLUMNS = ["Figures of", "Model", "mean intra", "mean inter", "gap", "spread of intra"]
IDENTITIES = 16


@dataclass(frozen=True)
class Pair:
    """Test features of baseline and whole method, of one grid and seed."""

    name: str
    arrays: dict[str, Arrays]
    perplexity: float

    def statistics(self) -> dict[str, DistanceStatistics]:
        """Distances by model."""
        return {
            model: distance_statistics(each["bnneck"], each["identities"], each["infrared"])
            for model, each in self.arrays.items()
        }

    def distances(self) -> Figure:
        """Distributions of the distances within and between identities."""
        return distance_figure(self.statistics())

    def maps(self) -> Iterator[tuple[str, Figure]]:
        """A t-SNE map of each model, of the same identities."""
        for model, arrays in self.arrays.items():
            chosen = pick_identities(arrays["identities"], arrays["infrared"], count=IDENTITIES, seed=0)
            rows = np.isin(arrays["identities"], chosen)
            yield (
                model,
                embedding_figure(
                    tsne(arrays["bnneck"][rows], seed=0, perplexity=self.perplexity),
                    arrays["identities"][rows],
                    arrays["infrared"][rows],
                    title=f"{model}: features by identity and modality (t-SNE)",
                ),
            )


def table(pair: Pair | None) -> pd.DataFrame:
    """The paper's figures, then ours."""
    rows = [("paper (its definition is unclear)", name, *map("{:g}".format, v)) for name, v in PAPER.items()]
    kinds = [PLAIN] * len(rows)
    if pair is None:
        rows.append((US, "both", *[NOT_RUN] * 4))
        kinds.append(MISSING)
    else:
        for model, s in pair.statistics().items():
            values = (s.mean_intra, s.mean_inter, s.gap, s.std_intra)
            rows.append((f"{US} ({pair.name})", model, *map("{:.3f}".format, values)))
            kinds.append(OURS)
    return pd.DataFrame(rows, columns=COLUMNS, index=kinds)


def find_pair(root: Path, views: Sequence[GridView]) -> Pair | None:
    """The first seed of a grid whose baseline and whole method are both in the cache."""
    for grid, whole in PAIRS:
        for view in (view for view in views if view.grid.name == grid and view.grid.score == "test"):
            for record in view.of(view.grid.baseline):
                other = next((r for r in view.of(whole) if r["seed"] == record["seed"]), None)
                base, best = (_embeddings(root, each) if each else None for each in (record, other))
                if base and best:
                    perplexity = float(view.rows[0].params.get("visualize.perplexity", 30.0))
                    name = f"grid {grid}, seed {record['seed']}"
                    return Pair(name, {"baseline": base, "MSCLNet": best}, perplexity)
    return None


def _embeddings(root: Path, record: Record) -> Arrays | None:
    """Test features of a record's experiment; None where its commit or the cached file is not on this machine."""
    try:
        lock = git(root, "cat-file", "blob", f"{record['experiment']['commit']}:dvc.lock")
    except (UserError, KeyError):
        return None
    files = output_files(lock, stages=["embed"], cache=cache_folder(root))
    path = files.get(str(paths.embeddings_of("test")))
    return paths.read_arrays(path, stage="embed") if path else None
