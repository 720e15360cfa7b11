"""Features and a protocol in, a labelled report out.

Axes: N images, D feature width, U gallery images used by any trial, B queries of a block.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from msclnet.errors import UserError
from msclnet.retrieval.distance import l2_normalise, unit_distances
from msclnet.retrieval.protocol import Images, Protocol
from msclnet.retrieval.query_scores import BLOCK_QUERIES, QueryScores, score_queries
from msclnet.retrieval.ranking import Ranking, mean_over_valid

RANKS = (1, 5, 10, 20)


def evaluate(
    features_ND: NDArray,
    images: Images,
    protocol: Protocol,
    *,
    feature: str,
    ranks: Sequence[int] = RANKS,
) -> dict:
    """Score features by a protocol, trial by trial.

    Each distance is computed once, whichever trials use it; memory is bounded by one block of queries
    against the images that any trial uses.

    Args:
        features_ND: One feature an image; its scale is of no account (cosine distance).
        images: What is known of the same images.
        protocol: Who queries whom among them.
        feature: Name of the feature for the report: `pooled`, `bnneck`, `random`, ...
        ranks: The k of the Rank-k to report.

    Returns:
        A dict ready for JSON, numbers as fractions in [0, 1]:
        `dataset`, `mode`, `shots`, `sampler`, `direction`, `feature`, `trials`, `queries`, `valid_queries` and
        `gallery` (sizes; where they differ between trials, the smallest); then `rank1`, ..., `mAP`, `mINP`, each
        {`mean`, `std`} over the trials, with the sample standard deviation (n - 1; 0 for a single trial);
        `per_trial`, the same names with one number a trial; and `cmc`, the mean curve from rank 1 on.

    Raises:
        UserError: No query has a match in a gallery.
        ValueError: The features do not fit the images or have no direction (see `distance.l2_normalise`).
    """
    if len(features_ND) != len(images):
        raise ValueError(f"{len(features_ND)} features for {len(images)} images")
    rankings = [
        _mean(scores, protocol, max(ranks)) for scores in _score_trials(features_ND, images, protocol)
    ]
    per_trial = {f"rank{k}": [ranking.at(k) for ranking in rankings] for k in ranks}
    per_trial["mAP"] = [ranking.mAP for ranking in rankings]
    per_trial["mINP"] = [ranking.mINP for ranking in rankings]
    return {
        **protocol.labels(),
        "feature": feature,
        "trials": len(rankings),
        "queries": len(protocol.queries),
        "valid_queries": min(ranking.valid for ranking in rankings),
        "gallery": min(map(len, protocol.galleries)),
        **{name: _mean_and_std(values) for name, values in per_trial.items()},
        "per_trial": per_trial,
        "cmc": np.mean([ranking.cmc for ranking in rankings], axis=0).tolist(),
    }


def _score_trials(features_ND: NDArray, images: Images, protocol: Protocol) -> list[QueryScores]:
    used_U, inverse = np.unique(np.concatenate(protocol.galleries), return_inverse=True)
    columns = np.split(inverse, np.cumsum([len(gallery) for gallery in protocol.galleries])[:-1])
    gallery_UD = l2_normalise(features_ND[used_U])
    blocks: list[list[QueryScores]] = [[] for _ in protocol.galleries]
    for start in range(0, len(protocol.queries), BLOCK_QUERIES):
        queries_B = protocol.queries[start : start + BLOCK_QUERIES]
        distances_BU = unit_distances(l2_normalise(features_ND[queries_B]), gallery_UD)
        for trial, gallery_G in enumerate(protocol.galleries):
            scores = score_queries(
                np.take(distances_BU, columns[trial], axis=1),
                images.identities[queries_B],
                images.identities[gallery_G],
                query_cameras=images.cameras[queries_B],
                gallery_cameras=images.cameras[gallery_G],
                exclude=protocol.exclude,
                cmc_by_identity=protocol.cmc_by_identity,
            )
            blocks[trial].append(scores)
    return [
        QueryScores(
            *(np.concatenate(parts) for parts in zip(*(vars(s).values() for s in trial), strict=True))
        )
        for trial in blocks
    ]


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
