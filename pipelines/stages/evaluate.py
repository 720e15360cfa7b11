"""Stage `evaluate`: the test identities by the data set's own protocols, and the validation identities' score."""

import csv
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msclnet.errors import UserError
from msclnet.images.table import open_array, read_splits
from msclnet.retrieval.baselines import colour_histograms, random_features
from msclnet.retrieval.calibration import (
    TOP_RESULTS,
    Calibration,
    calibration_error,
    fit_pairs,
    weights_digest,
)
from msclnet.retrieval.comparison import FILE as SCORES_FILE
from msclnet.retrieval.comparison import ValidationScores, validation_scores
from msclnet.retrieval.evaluation import evaluate as score
from msclnet.retrieval.evaluation import validation_figures
from msclnet.retrieval.protocols import INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED, Images
from msclnet.retrieval.re_ranking import ReRanking
from pipelines import settings
from pipelines.console import printable
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.gate import Decision, consider, write_report
from pipelines.stages.mlflow_run import dataset_digest, joined_run, read_run, register_network
from pipelines.stages.paths import fresh, write_json
from pipelines.stages.scoring import (
    METRICS,
    REFERENCES,
    Report,
    exclusion,
    headline,
    load_embeddings,
    mirroring,
    protocol_name,
    re_ranking,
    test_protocols,
    trials,
)
from pipelines.stages.stage import run_stage

if TYPE_CHECKING:
    from msclnet.tracking.run import Tracker

FEATURES = ("bnneck", "pooled")


def evaluate(params: Params) -> None:
    """results/embeddings, data/processed -> results/metrics, the calibration, and the registered model's aliases."""
    with joined_run("evaluate", params.section("evaluate")) as tracker:
        arrays = load_embeddings("val")
        calibration = calibrate(params, arrays)
        figures, reports = score_all(params, arrays)
        track(tracker, params, figures, reports, calibration)


def calibrate(params: Params, arrays: dict[str, np.ndarray]) -> Calibration:
    """Fit the probabilities of a search on the validation identities, and write them next to the weights."""
    calibration = Calibration(
        dataset=params.download.dataset,
        flip=bool(arrays["flip"]),
        weights=weights_digest(paths.WEIGHTS),
        fits=fit_pairs(arrays["bnneck"], Images.of(arrays), exclude=exclusion(params)),
    )
    write_json(paths.CALIBRATION, calibration.to_json())
    return calibration


def score_all(params: Params, arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], list[Report]]:
    """Write everything below results/metrics; returns the figures in percent, and the full reports as fractions."""
    reports = list(score_test(params))
    figures = {"validation": score_validation(params, arrays), **protocol_figures(reports, params)}
    write_json(paths.METRICS, figures)
    write_json(paths.METRICS_SUMMARY, summary(figures["validation"], headline(reports, params)[0]))
    write_json(paths.METRICS_REPORT, reports)
    write_cmc(fresh(paths.CMC), reports, params)
    print_table(reports)
    return figures, reports


def summary(validation: Mapping[str, float], report: Report) -> dict[str, Any]:
    """One line for `dvc metrics show`: the headline's figures in percent, and what distinguishes experiments."""
    direction = {INFRARED_TO_VISIBLE: "i2v", VISIBLE_TO_INFRARED: "v2i"}[report["direction"]]
    parts = (
        protocol_name(report) if report["mode"] else direction,
        report["feature"],
        f"split {report['split']}" if report["split"] else "",
        "flip" if report["flip"] else "",
    )
    return {
        **percent(report, METRICS),
        **({"val_score": validation["score"]} if validation else {}),
        "conditions": " ".join(filter(None, parts)),
    }


def protocol_figures(reports: list[Report], params: Params) -> dict[str, Any]:
    """The figures of metrics.json by protocol, in percent; report.json has all of them."""
    own, *others = headline(reports, params)
    first: dict[str, Any] = {part: percent(own, METRICS, part=part) for part in ("mean", "std")}
    for report in others:
        if report["feature"] in REFERENCES:
            first[report["feature"].replace(" ", "_")] = percent(report, ("rank1", "mAP"))
    figures = {protocol_name(own): first}
    for report in reports:
        if report["feature"] == own["feature"] and protocol_name(report) not in figures:
            figures[protocol_name(report)] = {"mean": percent(report, ("rank1", "mAP"))}
    # Last, so that the first protocol stays the first section.
    return {**figures, "conditions": f"{conditions(reports)}, feature {own['feature']}"}


def percent(report: Report, names: Iterable[str], *, part: str = "mean") -> dict[str, float]:
    """Figures of a report in percent, with four digits."""
    return {name: round(100 * report[name][part], 4) for name in names}


def conditions(reports: list[Report]) -> str:
    """What a reader must know in addition to the names of the figures in metrics.json and in the printed table."""
    own = reports[0]
    re_ranked = next((re_ranking(report) for report in reports if report["re_ranking"]), None)
    parts = [
        own["dataset"],
        f"split {own['split']}" if own["split"] else None,
        own["direction"] if own["mode"] else None,
        trials(own),
        mirroring(own),
        f"{re_ranked} where the name ends with reranked" if re_ranked else "no re-ranking",
    ]
    return ", ".join(part for part in parts if part)


def score_validation(params: Params, arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Percent on the validation identities, which alone choose models; empty where all identities are trained on."""
    if not len(arrays["identities"]):
        return {}
    feature = params.evaluate.feature
    return validation_figures(arrays[feature], Images.of(arrays), feature=feature, exclude=exclusion(params))


def score_test(params: Params) -> Iterator[Report]:
    """One report for each protocol and feature, references and re-ranked features among them."""
    arrays = load_embeddings("test")
    images = Images.of(arrays)
    features = {name: arrays[name] for name in FEATURES}
    if params.evaluate.reference:
        features["random"] = random_features(len(images), seed=params.seed)
        features["colour histogram"] = colour_histograms(open_array(paths.images_of("test")))
    asked = params.evaluate.re_ranking
    k_reciprocal = ReRanking(asked.k1, asked.k2, asked.lambda_) if asked.on else None
    flip = bool(arrays["flip"])
    embedding = {name: str(arrays[name]) for name in ("backend", "precision")}
    split = int(arrays["regdb_split"]) if "regdb_split" in arrays else None
    trained_in = read_run().get("precision")  # trainings of former versions did not record it
    for protocol in test_protocols(params, images):
        for name, values in features.items():
            own = name in FEATURES
            labels = {"flip": flip and own, "embedding": embedding if own else None, "split": split}
            labels["trained_in"] = trained_in if own else None
            yield {**score(values, images, protocol, feature=name, threads=settings.threads()), **labels}
            if k_reciprocal and name == params.evaluate.feature:
                yield {**score(values, images, protocol, feature=name, re_ranking=k_reciprocal), **labels}


def write_cmc(path: Path, reports: list[Report], params: Params) -> None:
    """The headline's CMC curves as long rows, for `dvc plots`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("rank", "matched", "feature"))
        for report in headline(reports, params):
            for rank, share in enumerate(report["cmc"], start=1):
                writer.writerow((rank, f"{share:.6f}", report["feature"]))


def print_table(reports: list[Report]) -> None:
    """All figures in percent, mean and standard deviation over the trials."""
    width = max(len(protocol_name(report)) for report in reports)
    print(conditions(reports))
    print(f"{'protocol':{width}} {'feature':17}" + "".join(f"{name:>15}" for name in METRICS))
    for r in reports:
        cells = "".join(f"{100 * r[n]['mean']:>8.2f} ± {100 * r[n]['std']:4.2f}" for n in METRICS)
        print(f"{protocol_name(r):{width}} {r['feature']:17}{cells}")


def track(
    tracker: "Tracker",
    params: Params,
    figures: dict[str, Any],
    reports: list[Report],
    calibration: Calibration,
) -> None:
    """Log into the training's run, and decide about the model's aliases."""
    values = {f"validation/{name}": value for name, value in figures["validation"].items()}
    for pairs, fit in calibration.fits.items():
        values[f"validation/{pairs}/calibration_error"] = calibration_error(fit.reliability)
        values[f"validation/{pairs}/calibration_error_top{TOP_RESULTS}"] = calibration_error(
            fit.top_reliability
        )
    for report in reports:
        for name in METRICS:
            values[f"test/{protocol_name(report)}/{report['feature']}/{name}"] = 100 * report[name]["mean"]
    tracker.log_metrics(values, step=0)
    tracker.set_tags({"evaluate.conditions": figures["conditions"]})
    for path in (paths.METRICS, paths.METRICS_SUMMARY, paths.METRICS_REPORT, paths.CMC, paths.CALIBRATION):
        tracker.log_artifact(path, "evaluate")
    own = headline(reports, params)[0]
    scores = {f"test_{name}": 100 * own[name]["mean"] for name in METRICS}
    try:
        decision = announce(tracker, params, scores, figures["validation"].get("score"))
    except UserError as error:  # the scores are written; only the aliases are missing
        decision = Decision(read_run()["model"], {"version": None}, None, reason=f"not decided: {error}")
        print(f"warning: the model's aliases were not set: {printable(error)}", file=sys.stderr)
    write_report(decision, paths.PROMOTION, paths.PROMOTION_PAGE)
    for path in (paths.PROMOTION, paths.PROMOTION_PAGE):
        tracker.log_artifact(path, "promotion")


def announce(
    tracker: "Tracker", params: Params, scores: dict[str, float], validation_score: float | None
) -> Decision:
    """Make the run's model the candidate, and the champion if it passes the gate."""
    from msclnet.tracking.registry import SCORE_TAG, add_file, find_version, set_candidate

    run = read_run()
    # The server may have been down when the training ended, or does not have its run.
    version = run["model_version"] if tracker.run_id == run["run_id"] else None
    version = version or find_version(tracker, name=run["model"])
    version = version or register_network(tracker, read_splits(paths.MANIFEST), name=run["model"])
    if version is None:
        raise UserError(f"{run['model']} has no version of this training")
    if validation_score is not None:
        scores = {**scores, SCORE_TAG: validation_score}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / SCORES_FILE
            score_queries(params).save(file)
            add_file(tracker, version, file, name=run["model"])
    add_file(tracker, version, paths.CALIBRATION, name=run["model"])
    set_candidate(tracker, version, scores, dataset_digest=dataset_digest(), name=run["model"])
    if validation_score is None:
        reason = (
            "no validation identities: the model stays a candidate, for the test identities choose nothing"
        )
        decision = Decision(run["model"], {"version": version}, None, reason=reason)
    else:
        decision = consider(tracker.server, run["model"], version, params.promote)
    print(decision.reason)
    return decision


def score_queries(params: Params) -> ValidationScores:
    """What the gate compares: each validation image as a query, with its brightness."""
    arrays = load_embeddings("val")
    brightness = np.array([image.mean() for image in open_array(paths.images_of("val"))])
    feature = arrays[params.evaluate.feature]
    return validation_scores(feature, Images.of(arrays), brightness=brightness, exclude=exclusion(params))


if __name__ == "__main__":
    run_stage(evaluate)
