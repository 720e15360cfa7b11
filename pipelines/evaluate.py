"""Stage `evaluate`: the test identities by SYSU-MM01's protocol, and the validation identities' score."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msclnet.data.arrays import open_array
from msclnet.errors import UserError
from msclnet.retrieval.baselines import colour_histograms, random_features
from msclnet.retrieval.evaluation import evaluate as score
from msclnet.retrieval.exclusion import same_room
from msclnet.retrieval.protocol import Images, Protocol
from msclnet.retrieval.sysu_mm01 import sysu_mm01_protocol
from msclnet.retrieval.validation import validate, validation_protocols
from pipelines import places
from pipelines.config import Params
from pipelines.registration import register_network
from pipelines.stage import run_stage
from pipelines.tracked import dataset_digest, joined_run, read_run

if TYPE_CHECKING:
    from msclnet.tracking.run import Tracker

FEATURES = ("bnneck", "pooled")
SHOWN = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")


def evaluate(params: Params) -> None:
    """results/embeddings, data/processed -> results/metrics, and the aliases of the registered model."""
    with joined_run("evaluate") as tracker:
        figures = score_all(params)
        track(tracker, params, figures)


def score_all(params: Params) -> dict[str, Any]:
    """Score validation and test identities, and write everything below results/metrics."""
    figures: dict[str, Any] = {"validation": score_validation(params)}
    reports = list(score_test(params))
    for report in reports:
        name = f"{report['mode']}-{report['shots']}shot-{report['sampler']}"
        figures.setdefault("test", {}).setdefault(name, {})[report["feature"]] = {
            key: {part: round(100 * value, 4) for part, value in report[key].items()} for key in SHOWN
        }
    places.METRICS.parent.mkdir(parents=True, exist_ok=True)
    places.METRICS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    places.METRICS_REPORT.write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")
    write_cmc(places.CMC, reports, params)
    print_table(reports)
    return figures


def load_embeddings(split: str) -> dict[str, np.ndarray]:
    """Arrays of results/embeddings/<split>.npz.

    Raises:
        UserError: The file is missing or damaged.
    """
    path = places.embeddings_of(split)
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run `dvc repro embed`") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); run `dvc repro embed --force`") from error


def score_validation(params: Params) -> dict[str, float]:
    """Score on the validation identities, the only one that may choose between models; in percent."""
    arrays = load_embeddings("val")
    images = Images.of(arrays)
    protocols = validation_protocols(images, exclude=same_room(2, 3), dataset=params.download.dataset)
    feature = params.evaluate.feature
    value, reports = validate(arrays[feature], images, protocols, feature=feature)
    figures = {"score": value}
    for report in reports:
        short = "i2v" if report["direction"].startswith("infrared") else "v2i"
        figures |= {f"{short}_{name}": report[name]["mean"] for name in ("rank1", "mAP")}
    return {name: round(100 * value, 4) for name, value in figures.items()}


def score_test(params: Params) -> Iterator[dict[str, Any]]:
    """One report for each protocol and feature, the references (chance, colour) among the features."""
    arrays = load_embeddings("test")
    images = Images.of(arrays)
    features = {name: arrays[name] for name in FEATURES}
    if params.evaluate.reference:
        features["random"] = random_features(len(images), seed=params.seed)
        features["colour histogram"] = colour_histograms(open_array(places.images_of("test")))
    for protocol in test_protocols(params, images):
        for name, values in features.items():
            yield {**score(values, images, protocol, feature=name), "flip": False, "re_ranking": False}


def test_protocols(params: Params, images: Images) -> Iterator[Protocol]:
    """All combinations of mode, shots and sampler that params.yaml asks for."""
    settings = params.evaluate
    if "official" in settings.samplers and not settings.permutations:
        raise UserError(
            "evaluate.permutations is empty, but evaluate.samplers asks for 'official': give the place of "
            "rand_perm_cam.mat, which comes with SYSU-MM01's evaluation code, or take the sampler 'agw'"
        )
    for sampler in settings.samplers:
        for mode in settings.modes:
            for shots in settings.shots:
                yield sysu_mm01_protocol(
                    images,
                    mode=mode,
                    shots=shots,
                    sampler=sampler,
                    permutations_path=settings.permutations or None,
                    trials=settings.trials,
                    dataset=params.download.dataset,
                )


def headline(reports: list[dict[str, Any]], params: Params) -> list[dict[str, Any]]:
    """Reports of the first mode, number of shots and sampler, the chosen feature first."""
    settings = params.evaluate
    wanted = (settings.modes[0], settings.shots[0], settings.samplers[0])
    chosen = [r for r in reports if (r["mode"], r["shots"], r["sampler"]) == wanted]
    return sorted(chosen, key=lambda report: report["feature"] != settings.feature)


def write_cmc(path: Path, reports: list[dict[str, Any]], params: Params) -> None:
    """The headline's CMC curves as long rows, for `dvc plots`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("rank", "matched", "feature"))
        for report in headline(reports, params):
            for rank, share in enumerate(report["cmc"], start=1):
                writer.writerow((rank, f"{share:.6f}", report["feature"]))


def print_table(reports: list[dict[str, Any]]) -> None:
    """All figures in percent, mean and standard deviation over the trials."""
    print(f"{'mode':7} {'shots':>5} {'sampler':9} {'feature':17}" + "".join(f"{name:>15}" for name in SHOWN))
    for r in reports:
        cells = "".join(f"{100 * r[n]['mean']:>8.2f} ± {100 * r[n]['std']:4.2f}" for n in SHOWN)
        print(f"{r['mode']:7} {r['shots']:>5} {r['sampler']:9} {r['feature']:17}{cells}")


def track(tracker: "Tracker", params: Params, figures: dict[str, Any]) -> None:
    """Log into the training's run; the model becomes candidate, and champion if validation says so."""
    from msclnet.tracking.registry import find_version, promote, set_candidate

    values = {f"val_{name}": value for name, value in figures["validation"].items()}
    for protocol, features in figures["test"].items():
        for feature, scores in features.items():
            for name, value in scores.items():
                values[f"test/{protocol}/{feature}/{name}"] = value["mean"]
    tracker.log_metrics(values, step=0)
    for path in (places.METRICS, places.METRICS_REPORT, places.CMC):
        tracker.log_artifact(path, "evaluate")
    run = read_run()
    # The server may have been away when the training ended.
    version = run["model_version"] or find_version(tracker, name=run["model"])
    version = version or register_network(tracker, name=run["model"])
    if version is None:
        return
    chosen = figures["test"][next(iter(figures["test"]))][params.evaluate.feature]
    set_candidate(
        tracker, version, {f"test_{name}": value["mean"] for name, value in chosen.items()}, name=run["model"]
    )
    verdict = promote(
        tracker,
        version,
        validation_score=figures["validation"]["score"],
        dataset_digest=dataset_digest(),
        name=run["model"],
    )
    print(verdict.reason)


if __name__ == "__main__":
    run_stage(evaluate)
