"""Stage `visualize`: the pictures of the paper and its supplement, of this model."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from msclnet.figures.curves import cmc_figure, history_figure, reliability_figure
from msclnet.figures.distances import distance_figure, distance_statistics
from msclnet.figures.embeddings import embedding_figure, pick_identities, tsne
from msclnet.figures.rankings import retrieval_figure, top_k
from msclnet.figures.style import save
from msclnet.images.table import open_array
from msclnet.retrieval.calibration import TOP_RESULTS, Calibration, calibration_error
from msclnet.retrieval.distance import cosine_distances
from msclnet.retrieval.protocols import Images
from msclnet.training.history import read_history
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.mlflow_run import joined_run
from pipelines.stages.paths import fresh, read_json
from pipelines.stages.scoring import (
    REFERENCES,
    Report,
    headline,
    load_embeddings,
    mirroring,
    processing,
    protocol_title,
    test_protocols,
    trials,
)
from pipelines.stages.stage import run_stage

if TYPE_CHECKING:
    from msclnet.models.network import MSCLNet

TOP = 10


def visualize(params: Params) -> None:
    """results/train, embeddings, metrics -> results/figures/*.png, also in MLflow."""
    paths.FIGURES.mkdir(parents=True, exist_ok=True)
    arrays = load_embeddings("test")
    figures = {
        "heatmaps": lambda: heatmaps(params, arrays),
        "top10": lambda: retrieval(params, arrays),
        "tsne": lambda: embedding_map(params, arrays),
        "distances": lambda: distances(params, arrays),
        "training": training_curves,
        "cmc": lambda: cmc(params),
        "reliability": reliability,
    }
    with joined_run("visualize", params.section("visualize")) as tracker:
        for name, draw in figures.items():
            path = paths.FIGURES / f"{name}.png"
            save(draw(), fresh(path))
            tracker.log_artifact(path, "figures")
        tracker.log_artifact(paths.AUGMENTATION_PICTURE, "figures")
        tracker.log_artifact(paths.PREPROCESS_PAGE, "data")
    print(f"{len(figures)} figures in {paths.FIGURES}")


def heatmaps(params: Params, arrays: dict[str, np.ndarray]) -> Figure:
    """Grad-CAM on visible and infrared images of the same people (supplement, Fig. 2)."""
    from msclnet.embedding import load_network
    from msclnet.figures.heatmap import heatmap_figure

    count, seed = params.visualize.heatmap_identities, params.visualize.seed
    identities, modalities, rng = arrays["identities"], arrays["infrared"], np.random.default_rng(seed)
    chosen = pick_identities(identities, modalities, count=count, seed=seed)
    network = load_network(paths.WEIGHTS, read_json(paths.NETWORK_SPEC, stage="train"))
    pixels = open_array(paths.images_of("test"))

    def rows_of(identity: int, *, infrared: bool) -> np.ndarray:
        return np.flatnonzero((identities == identity) & (modalities == infrared))

    shown: dict[bool, tuple[np.ndarray, np.ndarray]] = {}
    for infrared in (False, True):
        images = pixels[np.array([rng.choice(rows_of(i, infrared=infrared)) for i in chosen])]
        others = [arrays["bnneck"][rows_of(i, infrared=not infrared)] for i in chosen]
        means = np.stack([features.mean(axis=0) for features in others])
        shown[infrared] = (images, heat(network, images, infrared=infrared, targets=means))
    return heatmap_figure(*shown[False], *shown[True], [int(i) for i in chosen])


def heat(network: "MSCLNet", images: np.ndarray, *, infrared: bool, targets: np.ndarray) -> np.ndarray:
    """Where the network sees each target's person in its image; (N, h, w) in [0, 1].

    The score is the cosine similarity of the image's BNNeck feature to its target feature.
    """
    import torch
    import torch.nn.functional as F

    from msclnet.figures.heatmap import cam

    tensor, goal = torch.from_numpy(images), torch.from_numpy(targets)
    with torch.no_grad():
        none = tensor[:0]
        maps = network.maps(none, tensor) if infrared else network.maps(tensor, none)
    return cam(maps, lambda m: F.cosine_similarity(network.head(m)[1], goal, dim=1)).numpy()


def retrieval(params: Params, arrays: dict[str, np.ndarray]) -> Figure:
    """The ten nearest gallery images of a few queries, in the headline protocol's first trial (Fig. 3)."""
    protocol = next(test_protocols(params, Images.of(arrays)))
    gallery = protocol.galleries[0]
    rng = np.random.default_rng(params.visualize.seed)
    count = min(params.visualize.retrieval_queries, len(protocol.queries))
    queries = np.sort(rng.choice(protocol.queries, size=count, replace=False))
    features = arrays[params.evaluate.feature]
    distances = cosine_distances(features[queries], features[gallery])
    allowed = None
    if protocol.exclude is not None:
        columns = (arrays["identities"], arrays["cameras"])
        allowed = ~protocol.exclude(*(c[queries] for c in columns), *(c[gallery] for c in columns))
    nearest, nearest_distances = top_k(distances, allowed, k=min(TOP, len(gallery)))
    shown = gallery[nearest]
    first = headline_reports(params)[0]
    trial = f"trial 1 of {first['trials']}" if first["trials"] > 1 else trials(first)
    pixels = open_array(paths.images_of("test"))
    return retrieval_figure(
        pixels[queries],
        pixels[shown.ravel()].reshape(*shown.shape, *pixels.shape[1:]),
        query_identities_Q=arrays["identities"][queries],
        query_cameras_Q=arrays["cameras"][queries],
        gallery_identities_QK=arrays["identities"][shown],
        gallery_cameras_QK=arrays["cameras"][shown],
        distances_QK=nearest_distances,
        direction=protocol.direction,
        protocol=f"{protocol_title(first)}, {trial}\nfeature {params.evaluate.feature}, {processing(first)}",
        distance="cosine distance",
    )


def embedding_map(params: Params, arrays: dict[str, np.ndarray]) -> Figure:
    """t-SNE of a few test identities in both modalities (paper, Fig. 5 a, b)."""
    settings = params.visualize
    chosen = pick_identities(
        arrays["identities"], arrays["infrared"], count=settings.map_identities, seed=settings.seed
    )
    rows = np.isin(arrays["identities"], chosen)
    features = arrays[params.evaluate.feature][rows]
    points = tsne(features, seed=settings.seed, perplexity=settings.perplexity)
    return embedding_figure(points, arrays["identities"][rows], arrays["infrared"][rows])


def distances(params: Params, arrays: dict[str, np.ndarray]) -> Figure:
    """Distances within and between identities (paper, Fig. 5 c, d)."""
    feature = params.evaluate.feature
    statistics = distance_statistics(arrays[feature], arrays["identities"], arrays["infrared"])
    first = headline_reports(params)[0]
    name = protocol_title({**first, "mode": None, "shots": None})
    return distance_figure(
        {"MSCLNet": statistics},
        data=f"{name}, test identities, feature {feature}, {mirroring(first)}",
    )


def training_curves() -> Figure:
    """Every column of the training's history."""
    rows = read_history(paths.HISTORY)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return history_figure({name: [row.get(name, float("nan")) for row in rows] for name in names})


def cmc(params: Params) -> Figure:
    """CMC of the headline protocol, with chance and the colour histogram."""
    reports = headline_reports(params)
    first = reports[0]
    curves = {r["feature"]: (r["cmc"], _deviations(r)) for r in reports if r["feature"] not in REFERENCES}
    chance = {r["feature"]: r["cmc"] for r in reports if r["feature"] in REFERENCES}
    over = trials(first)
    if first["trials"] > 1:
        over = f"mean of {over}, band: standard deviation over the trials"
    return cmc_figure(
        curves,
        chance=chance,
        title=f"Cumulative matching characteristic, {first['direction']}",
        caption=f"{protocol_title(first)}, {processing(first)}; {over}.",
    )


def reliability() -> Figure:
    """Predicted probabilities against outcomes on the validation identities, by kind of pair."""
    calibration = Calibration.from_json(read_json(paths.CALIBRATION, stage="evaluate"))
    panels = {}
    for pairs, fit in calibration.fits.items():
        kinds = {"all pairs": fit.reliability, f"top {TOP_RESULTS}": fit.top_reliability}
        panels[f"{pairs}, {100 * fit.prevalence:.1f} % same person"] = {
            f"{name}: error {100 * calibration_error(bins):.2f} %": bins for name, bins in kinds.items()
        }
    caption = (
        f"{calibration.dataset}, validation identities; each is predicted by a curve fitted without it. Top "
        f"{TOP_RESULTS}: of each query the most similar alone. Error: expected calibration error over ten bins."
    )
    return reliability_figure(panels, caption=caption)


def headline_reports(params: Params) -> list[Report]:
    """Reports of the headline's protocol."""
    return headline(read_json(paths.METRICS_REPORT, stage="evaluate"), params)


def _deviations(report: dict[str, Any]) -> np.ndarray:
    """Standard deviation at each rank, drawn straight between the ranks at which it was measured."""
    known = {int(name[4:]): report[name]["std"] for name in report if name.startswith("rank")}
    return np.interp(np.arange(1, len(report["cmc"]) + 1), list(known), list(known.values()))


if __name__ == "__main__":
    run_stage(visualize)
