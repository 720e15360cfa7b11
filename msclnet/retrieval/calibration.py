"""The probability that two images show the same person, given the cosine similarity of their BNNeck features.

The log-odds are a straight line of the similarity (logistic regression). Isotonic regression was not taken: its steps
give different similarities the same probability, so that a list of results loses its order, it ends at exactly 0 and
1, and its many steps rest on few people: the pairs of one person are far from independent.

A probability holds for a prevalence: here the share of same-person pairs among all pairs of a query and a gallery
image on the validation identities, about one over their number. A gallery of more people has a lower one;
`probability` converts.

Source of the error and its diagram: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
Axes: N images, D feature width, Q queries, G gallery images, F folds, S bins of similarity.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msclnet.errors import UserError
from msclnet.retrieval.distance import l2_normalise
from msclnet.retrieval.protocols import BoolArray, Exclusion, Images, IntArray

Pairs = Literal["cross-modal", "visible", "infrared"]
"""One image of each modality, or two of one"""

FILE = "calibration.json"  # next to a model's weights
FOLDS = 5
TOP_RESULTS = 20  # images of a result list that a user looks at
PROBABILITY_BINS = 10
SIMILARITY_BINS = 10_000  # 2e-4 wide: at a slope of 50 the log-odds are right to 0.005
CENTRES_S = (np.arange(SIMILARITY_BINS) + 0.5) * (2 / SIMILARITY_BINS) - 1
BLOCK_QUERIES = 256


class ReliabilityBin(NamedTuple):
    """The pairs whose predicted probability lies in one tenth of [0, 1]: their number, mean prediction and outcome."""

    pairs: int
    predicted: float
    observed: float


Reliability = tuple[ReliabilityBin, ...]
"""From low to high probability; empty bins are left out"""


@dataclass(frozen=True)
class LogisticFit:
    """The curve of one kind of pair, and how far it is from the truth on people that it was not fitted on."""

    slope: float  # of the log-odds against the cosine similarity
    intercept: float
    prevalence: float  # share of same-person pairs that the intercept stands for
    identities: int  # people that the fit rests on
    pairs: int  # unordered pairs of images
    reliability: Reliability  # of all pairs, cross-fitted by identity
    top_reliability: Reliability  # of the TOP_RESULTS most similar gallery images of each query alone

    def probability(self, similarities: ArrayLike, *, prevalence: float | None = None) -> NDArray[np.float64]:
        """See `Calibration.probability`."""
        log_odds = self.slope * np.asarray(similarities, np.float64) + self.intercept
        if prevalence is not None:
            log_odds = log_odds + _logit(prevalence) - _logit(self.prevalence)
        return _sigmoid(log_odds)


@dataclass(frozen=True)
class Calibration:
    """What turns the similarities of one model into probabilities."""

    dataset: str  # whose validation identities it was fitted on, as in params.yaml
    flip: bool  # whether features were averaged with those of the mirror images
    weights: str  # sha256 of the model's weights
    fits: Mapping[Pairs, LogisticFit]

    def probability(
        self, similarities: ArrayLike, pairs: Pairs = "cross-modal", *, prevalence: float | None = None
    ) -> NDArray[np.float64]:
        """Probability in (0, 1) that two images show the same person; same shape as `similarities`.

        Args:
            similarities: Cosine similarities, from -1 to 1.
            pairs: The modalities of the two images.
            prevalence: Share of same-person pairs where the images come from, in (0, 1). Default: that of the
                validation identities.

        Raises:
            KeyError: `fits` has no such kind of pair.
        """
        return self.fits[pairs].probability(similarities, prevalence=prevalence)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the calibration errors stand among them for readers."""
        fits = {
            pairs: asdict(fit)
            | {"calibration_error": calibration_error(fit.reliability)}
            | {f"calibration_error_top{TOP_RESULTS}": calibration_error(fit.top_reliability)}
            for pairs, fit in self.fits.items()
        }
        return {**asdict(self), "fits": fits}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Calibration":
        """The inverse of `to_json`; KeyError, TypeError or ValueError for something else."""
        fits = {pairs: _fit_from_json(fit) for pairs, fit in values["fits"].items()}
        names = ("dataset", "flip", "weights")
        return cls(**{name: values[name] for name in names}, fits=fits)


def read_calibration(weights: Path) -> Calibration | None:
    """The calibration that lies next to a model's weights, in results/train or in a downloaded model.

    None where there is none, or where it belongs to other weights (it is written by stage evaluate, after the
    training), or has no fit. UserError where it is damaged.
    """
    path = weights.with_name(FILE)
    try:
        calibration = Calibration.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); run `dvc repro evaluate --force`") from error
    return calibration if calibration.fits and calibration.weights == weights_digest(weights) else None


def weights_digest(path: Path) -> str:
    """sha256 of a model's weights, as `Calibration.weights` has it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def calibration_error(reliability: Reliability) -> float:
    """Expected calibration error in [0, 1]: mean distance of prediction and outcome, weighted by pairs."""
    total = sum(each.pairs for each in reliability)
    return sum(each.pairs * abs(each.predicted - each.observed) for each in reliability) / max(total, 1)


def fit_pairs(features_ND: NDArray, images: Images, *, exclude: Exclusion | None) -> dict[Pairs, LogisticFit]:
    """Fit the curves on validation images, and measure their error on people that they were not fitted on.

    Every image queries all images of the wanted modality. Two images of one modality count only if two cameras took
    them: images by one camera are often neighbours in one film. The people are split into five folds, and the pairs
    of a query are predicted by a curve that was fitted without all people of the query's fold.

    `exclude`: what a query of the other modality ignores, as in the data set's test. A kind of pair that too few people
    have gets no fit.
    """
    if not len(images):
        return {}
    unit_ND = l2_normalise(features_ND).astype(np.float32)
    visible, infrared = np.flatnonzero(~images.infrared), np.flatnonzero(images.infrared)
    searches: dict[Pairs, list[_Search]] = {
        "cross-modal": [(infrared, visible, exclude), (visible, infrared, exclude)],
        "visible": [(visible, visible, _same_camera)],
        "infrared": [(infrared, infrared, _same_camera)],
    }
    fits: dict[Pairs, LogisticFit] = {}
    for pairs, which in searches.items():
        if (fit := _fit(*_count(unit_ND, images, which))) is not None:
            fits[pairs] = fit
    return fits


# Positions of queries and gallery, and what a query ignores.
_Search = tuple[IntArray, IntArray, Exclusion | None]


def _count(unit_ND: NDArray, images: Images, searches: list[_Search]) -> tuple[NDArray, NDArray, int]:
    """Pairs (2, F, F, S) by same person, fold of the query, fold of the gallery image and similarity.

    A curve depends on a pair by these alone, and 16 million pairs become some thousand weighted rows. Returns the
    counts of all pairs; those of each query's `TOP_RESULTS`; and how many people have a pair.
    """
    # People are dealt to the folds in turn; their numbers have no order that matters.
    fold_N = np.unique(images.identities, return_inverse=True)[1] % FOLDS
    counts = np.zeros((2, FOLDS, FOLDS, SIMILARITY_BINS), np.int64)
    top_counts = np.zeros_like(counts)
    people: set[int] = set()
    for queries, gallery, exclude in searches:
        for start in range(0, len(queries) if len(gallery) else 0, BLOCK_QUERIES):
            block = queries[start : start + BLOCK_QUERIES]
            columns = (images.identities, images.cameras)
            who = (*(column[block] for column in columns), *(column[gallery] for column in columns))
            same_QG = who[0][:, None] == who[2]
            kept_QG = np.ones_like(same_QG) if exclude is None else ~exclude(*who)
            similarities_QG = unit_ND[block] @ unit_ND[gallery].T
            bins_QG = ((similarities_QG + 1) * (SIMILARITY_BINS / 2)).astype(np.int64)
            cell = (same_QG.astype(int), fold_N[block, None], fold_N[None, gallery], bins_QG)
            cells_QG = np.ravel_multi_index(cell, counts.shape, mode="clip")
            similarities_QG[~kept_QG] = -np.inf
            top = min(TOP_RESULTS, len(gallery))
            top_QT = np.argpartition(-similarities_QG, top - 1, axis=1)[:, :top]
            top_cells = np.take_along_axis(cells_QG, top_QT, 1)[np.take_along_axis(kept_QG, top_QT, 1)]
            for sums, cells in ((counts, cells_QG[kept_QG]), (top_counts, top_cells)):
                sums += np.bincount(cells, minlength=sums.size).reshape(sums.shape)
            people.update(who[0][(same_QG & kept_QG).any(axis=1)].tolist())
    return counts, top_counts, len(people)


def _fit(counts: NDArray, top_counts: NDArray, identities: int) -> LogisticFit | None:
    all_2S = counts.sum((1, 2))
    others = [np.arange(FOLDS) != fold for fold in range(FOLDS)]
    parts = [counts[:, rest][:, :, rest].sum((1, 2)) for rest in others]
    if any(not part.any(axis=1).all() for part in (all_2S, *parts)):
        return None
    prevalence = _prevalence(all_2S)
    slope, intercept = _curve(all_2S)
    predicted_FS = []
    for part in parts:
        held_out_slope, held_out_intercept = _curve(part)
        # The folds' complement has fewer people, and a larger share of same-person pairs.
        shift = _logit(prevalence) - _logit(_prevalence(part))
        predicted_FS.append(_sigmoid(held_out_slope * CENTRES_S + held_out_intercept + shift))
    return LogisticFit(
        slope=slope,
        intercept=intercept,
        prevalence=prevalence,
        identities=identities,
        pairs=int(all_2S.sum()) // 2,  # each was searched from both sides
        reliability=_reliability(np.stack(predicted_FS), counts.sum(2)),
        top_reliability=_reliability(np.stack(predicted_FS), top_counts.sum(2)),
    )


def _curve(counts_2S: NDArray) -> tuple[float, float]:
    """Slope and intercept of the log-odds, of the greatest likelihood."""
    from sklearn.linear_model import LogisticRegression

    same, bins = np.nonzero(counts_2S)
    # The small ridge keeps the slope finite where the two classes do not overlap.
    model = LogisticRegression(C=1e4, solver="newton-cholesky", tol=1e-8)
    model.fit(CENTRES_S[bins, None], same, sample_weight=counts_2S[same, bins])
    return float(np.ravel(model.coef_)[0]), float(np.ravel(model.intercept_)[0])


def _reliability(predicted_FS: NDArray, counts_2FS: NDArray) -> Reliability:
    pairs_FS, same_FS = counts_2FS.sum(0), counts_2FS[1]
    tenth_FS = np.minimum(predicted_FS * PROBABILITY_BINS, PROBABILITY_BINS - 1).astype(int)

    def sums(weights: NDArray) -> NDArray:
        return np.bincount(tenth_FS.ravel(), weights.ravel(), PROBABILITY_BINS)

    columns = (sums(pairs_FS), sums(pairs_FS * predicted_FS), sums(same_FS))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(ReliabilityBin(int(n), predicted / n, same / n) for n, predicted, same in rows if n)


def _fit_from_json(values: Mapping[str, Any]) -> LogisticFit:
    numbers = {name: values[name] for name in ("slope", "intercept", "prevalence", "identities", "pairs")}
    reliability, top = (
        tuple(ReliabilityBin(*each) for each in values[name]) for name in ("reliability", "top_reliability")
    )
    return LogisticFit(**numbers, reliability=reliability, top_reliability=top)


def _same_camera(_: IntArray, query_cameras: IntArray, __: IntArray, gallery_cameras: IntArray) -> BoolArray:
    return query_cameras[:, None] == gallery_cameras


def _prevalence(counts_2S: NDArray) -> float:
    return float(counts_2S[1].sum() / counts_2S.sum())


def _logit(share: float) -> float:
    return float(np.log(share) - np.log1p(-share))


def _sigmoid(log_odds: NDArray) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -log_odds))
