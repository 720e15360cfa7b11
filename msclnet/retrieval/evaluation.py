"""Scores of a set of embeddings by a protocol, and the validation score by which a model is chosen.

Axes: N images, D feature width, Q queries, G gallery images, U gallery images used by any trial, B queries of a block.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from msclnet.errors import UserError
from msclnet.retrieval.distance import l2_normalise, unit_distances
from msclnet.retrieval.protocols import (
    DIRECTIONS,
    SYSU_MM01_SHARED_ROOM,
    Exclusion,
    Images,
    IntArray,
    Protocol,
    modality_protocol,
    same_identity_and_camera,
    same_room,
)
from msclnet.retrieval.ranking import QueryScores, Ranking, mean_over_valid, score_queries
from msclnet.retrieval.re_ranking import ReRanking, re_rank

RANKS = (1, 5, 10, 20)
BLOCK_QUERIES = 512  # that a thread has at a time


def evaluate(
    features_ND: NDArray,
    images: Images,
    protocol: Protocol,
    *,
    feature: str,
    re_ranking: ReRanking | None = None,
    threads: int = 1,
) -> dict:
    """Score features by a protocol, trial by trial.

    Each distance is computed once, whichever trials use it; memory is bounded by one block of queries a thread
    against the images that any trial uses. Re-ranking needs all queries at once: queries squared in float32, and
    a trial's distances a few times over.

    Args:
        features_ND: One feature an image; L2-normalised first (cosine distance).
        images: What is known of the same images.
        protocol: Who queries whom among them.
        feature: Name of the feature for the report: `pooled`, `bnneck`, `random`, ...
        re_ranking: Settings of k-reciprocal re-ranking, or None for the distances themselves. Each trial's gallery
            is re-ranked with all queries, then the protocol's exclusion applies: an image that a query must
            ignore may be its neighbour, but is not in its list.
        threads: Threads that score blocks of queries; the result is the same with any number. Re-ranking uses one.

    Returns:
        A dict ready for JSON, numbers as fractions in [0, 1]:
        `dataset`, `mode`, `shots`, `sampler`, `direction`, `feature`, `re_ranking` (false, or its `k1`, `k2` and
        `lambda`), `trials`, `queries`, `valid_queries` and `gallery` (sizes; where they differ between trials, the
        smallest); then `rank1`, ..., `mAP`, `mINP`, each
        {`mean`, `std`} over the trials, with the sample standard deviation (n - 1; 0 for a single trial);
        `per_trial`, the same names with one number a trial; and `cmc`, the mean curve from rank 1 on.

    Raises:
        UserError: No query has a match in a gallery.
        ValueError: The features do not fit the images or have no direction (see `distance.l2_normalise`).
    """
    if len(features_ND) != len(images):
        raise ValueError(f"{len(features_ND)} features for {len(images)} images")
    if re_ranking is None:
        scores_of_trials = score_trials(features_ND, images, protocol, threads)
    else:
        scores_of_trials = _score_re_ranked(features_ND, images, protocol, re_ranking)
    rankings = [_mean(scores, protocol, max(RANKS)) for scores in scores_of_trials]
    per_trial = {f"rank{k}": [ranking.at(k) for ranking in rankings] for k in RANKS}
    per_trial["mAP"] = [ranking.mAP for ranking in rankings]
    per_trial["mINP"] = [ranking.mINP for ranking in rankings]
    settings = re_ranking and {"k1": re_ranking.k1, "k2": re_ranking.k2, "lambda": re_ranking.lambda_value}
    return {
        **protocol.labels(),
        "feature": feature,
        "re_ranking": settings or False,
        "trials": len(rankings),
        "queries": len(protocol.queries),
        "valid_queries": min(ranking.valid for ranking in rankings),
        "gallery": min(map(len, protocol.galleries)),
        **{name: _mean_and_std(values) for name, values in per_trial.items()},
        "per_trial": per_trial,
        "cmc": np.mean([ranking.cmc for ranking in rankings], axis=0).tolist(),
    }


def score_trials(
    features_ND: NDArray, images: Images, protocol: Protocol, threads: int = 1
) -> list[QueryScores]:
    """The scores of each query (Q,) in each trial, by the distances themselves; arguments as of `evaluate`."""
    used_U, inverse = np.unique(np.concatenate(protocol.galleries), return_inverse=True)
    columns = np.split(inverse, np.cumsum([len(gallery) for gallery in protocol.galleries])[:-1])
    gallery_UD = l2_normalise(features_ND[used_U])

    def trials_of(start: int) -> list[QueryScores]:
        queries_B = protocol.queries[start : start + BLOCK_QUERIES]
        distances_BU = unit_distances(l2_normalise(features_ND[queries_B]), gallery_UD)
        return [
            _score(np.take(distances_BU, columns_G, axis=1), images, protocol, queries_B, gallery_G)
            for columns_G, gallery_G in zip(columns, protocol.galleries, strict=True)
        ]

    with ThreadPoolExecutor(threads) as pool:
        blocks = list(pool.map(trials_of, range(0, len(protocol.queries), BLOCK_QUERIES)))
    return [
        QueryScores(
            *(np.concatenate(parts) for parts in zip(*(vars(s).values() for s in trial), strict=True))
        )
        for trial in zip(*blocks, strict=True)
    ]


def _score_re_ranked(
    features_ND: NDArray, images: Images, protocol: Protocol, settings: ReRanking
) -> Iterator[QueryScores]:
    # float32, as the method's published code has it: all queries against each other are the largest array here
    queries_QD = l2_normalise(features_ND[protocol.queries]).astype(np.float32)
    query_query_QQ = unit_distances(queries_QD, queries_QD)
    for gallery_G in protocol.galleries:
        gallery_GD = l2_normalise(features_ND[gallery_G]).astype(np.float32)
        distances_QG = re_rank(
            query_query_QQ,
            unit_distances(queries_QD, gallery_GD),
            unit_distances(gallery_GD, gallery_GD),
            settings,
        )
        yield _score(distances_QG, images, protocol, protocol.queries, gallery_G)


def _score(
    distances_QG: NDArray, images: Images, protocol: Protocol, queries_Q: IntArray, gallery_G: IntArray
) -> QueryScores:
    return score_queries(
        distances_QG,
        images.identities[queries_Q],
        images.identities[gallery_G],
        query_cameras=images.cameras[queries_Q],
        gallery_cameras=images.cameras[gallery_G],
        exclude=protocol.exclude,
        cmc_by_identity=protocol.cmc_by_identity,
    )


def _mean(scores: QueryScores, protocol: Protocol, max_rank: int) -> Ranking:
    if not scores.first.any():
        raise UserError(
            f"{' '.join(str(value) for value in protocol.labels().values() if value is not None)}: none of the "
            f"{len(scores.first)} queries has a match in the gallery; are the identities of both modalities the same?"
        )
    return mean_over_valid(scores, max_rank=max_rank)


def _mean_and_std(values: list[float]) -> dict[str, float]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std}


# The score by which a model is chosen, on identities that are neither trained on nor tested on.


def validation_protocols(
    images: Images, *, exclude: Exclusion | None = None, draws: int = 5
) -> tuple[Protocol, Protocol]:
    """Both directions, with several galleries of one image of each identity and camera.

    The draws are the same at every call, so that all epochs and models are scored on the same galleries. `exclude`:
    what a query ignores, as in the data set's test (`same_room(2, 3)` for SYSU-MM01's layout).
    """
    first, second = (
        modality_protocol("validation", images, direction=direction, trials=draws, exclude=exclude)
        for direction in DIRECTIONS
    )
    return first, second


def validate(
    features_ND: NDArray, images: Images, protocols: Sequence[Protocol], *, feature: str = "bnneck"
) -> tuple[float, list[dict]]:
    """M in [0, 1], and one report of `evaluate` for each protocol of `validation_protocols`.

    M is the mean of Rank-1 and mAP over the directions: a model must be right at the top and in the rest of
    the list, whichever modality asks.
    """
    reports = [evaluate(features_ND, images, protocol, feature=feature) for protocol in protocols]
    score = float(np.mean([report[name]["mean"] for report in reports for name in ("rank1", "mAP")]))
    return score, reports


def query_exclusion(dataset: str, *, same_camera: str) -> Exclusion | None:
    """What a query of a data set ignores, in validation as in its test.

    `same_camera`: whether a query of own images (`folder`) has its identity's images by its own camera `kept` or
    `ignored`; the other data sets have a rule of their own.
    """
    if dataset in ("synthetic", "sysu-mm01"):
        return same_room(*SYSU_MM01_SHARED_ROOM)
    if dataset == "llcm" or (dataset == "folder" and same_camera == "ignored"):
        return same_identity_and_camera
    return None


def validation_figures(
    features: np.ndarray, images: Images, *, feature: str, exclude: Exclusion | None
) -> dict[str, float]:
    """Score (mean of Rank-1 and mAP over both directions) and its parts, in percent."""
    protocols = validation_protocols(images, exclude=exclude)
    score, reports = validate(features, images, protocols, feature=feature)
    figures = {"score": score}
    for report in reports:
        short = "i2v" if report["direction"].startswith("infrared") else "v2i"
        figures |= {f"{short}_{name}": report[name]["mean"] for name in ("rank1", "mAP")}
    return {name: round(100 * value, 4) for name, value in figures.items()}
