"""Probabilities of pairs: against loops over all pairs, another solver, and shares that can be counted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from msclnet.errors import UserError
from msclnet.retrieval.calibration import (
    FILE,
    FOLDS,
    TOP_RESULTS,
    Calibration,
    calibration_error,
    fit_pairs,
    read_calibration,
    weights_digest,
)
from msclnet.retrieval.protocols import Images, same_room

ROOM = same_room(2, 3)


def people(count: int = 8, *, noise: float = 0.9, cameras: tuple[int, ...] = (1, 2, 3, 6), seed: int = 0):
    """Two images of each person by each camera, 3 and 6 infrared, and features around the person's own."""
    generator = np.random.default_rng(seed)
    identities, seen = (grid.ravel() for grid in np.meshgrid(np.arange(count), np.repeat(cameras, 2)))
    features = generator.normal(size=(count, 16))[identities]
    features = features + noise * generator.normal(size=features.shape)
    paths = np.arange(len(seen)).astype(str)
    return features, Images(10 * identities + 7, seen, np.isin(seen, (3, 6)), paths)


def pairs_by_loop(features, images: Images, kind: str) -> list[tuple[int, int, float, bool]]:
    """Query, gallery image, cosine similarity, whether it is one of the query's most similar."""
    found = []
    for query in range(len(images)):
        own = []
        for other in range(len(images)):
            infrared = (bool(images.infrared[query]), bool(images.infrared[other]))
            camera = (int(images.cameras[query]), int(images.cameras[other]))
            if kind == "cross-modal":
                wanted = infrared[0] != infrared[1] and not set(camera) <= {2, 3}
            else:
                wanted = infrared == ((kind == "infrared"),) * 2 and camera[0] != camera[1]
            if wanted:
                a, b = features[query], features[other]
                own.append((query, other, float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))))
        best = sorted(own, key=lambda pair: -pair[2])[:TOP_RESULTS]
        found += [(*pair, pair in best) for pair in own]
    return found


def curve_by_minimisation(similarities: np.ndarray, same: np.ndarray) -> np.ndarray:
    def loss(slope_and_intercept: np.ndarray) -> float:
        log_odds = slope_and_intercept[0] * similarities + slope_and_intercept[1]
        return float(np.mean(np.logaddexp(0, log_odds) - same * log_odds))

    return minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-9}).x


def error_by_loop(predicted: np.ndarray, same: np.ndarray) -> float:
    total = 0.0
    for tenth in range(10):
        inside = [i for i, p in enumerate(predicted) if tenth / 10 <= p < (tenth + 1) / 10]
        if inside:
            total += len(inside) * abs(float(np.mean(predicted[inside])) - float(np.mean(same[inside])))
    return total / len(predicted)


@pytest.mark.parametrize("kind", ["cross-modal", "visible", "infrared"])
def test_curve_and_cross_fitted_error_are_those_of_loops_over_all_pairs(kind) -> None:
    features, images = people()
    fit = fit_pairs(features, images, exclude=ROOM)[kind]
    rows = pairs_by_loop(features, images, kind)
    query, other = (np.array([row[place] for row in rows]) for place in (0, 1))
    similarities, top = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
    same = images.identities[query] == images.identities[other]
    assert (fit.pairs, fit.identities) == (len(rows) // 2, 8)
    assert fit.prevalence == pytest.approx(same.mean(), rel=1e-12)
    assert [fit.slope, fit.intercept] == pytest.approx(curve_by_minimisation(similarities, same), rel=2e-3)

    fold = np.unique(images.identities, return_inverse=True)[1] % FOLDS
    predicted = np.empty(len(rows))
    for held_out in range(FOLDS):
        used = (fold[query] != held_out) & (fold[other] != held_out)
        slope, intercept = curve_by_minimisation(similarities[used], same[used])
        odds = np.exp(slope * similarities + intercept)
        odds *= same.mean() / (1 - same.mean()) / (same[used].mean() / (1 - same[used].mean()))
        asked = fold[query] == held_out
        predicted[asked] = (odds / (1 + odds))[asked]
    # A pair whose prediction lies on the edge of a tenth may fall to either side of it.
    assert calibration_error(fit.reliability) == pytest.approx(error_by_loop(predicted, same), abs=2e-3)
    assert sum(row.pairs for row in fit.top_reliability) == top.sum()
    assert calibration_error(fit.top_reliability) == pytest.approx(
        error_by_loop(predicted[top], same[top]), abs=4e-3
    )


def test_with_two_similarities_the_probabilities_are_the_counted_shares() -> None:
    """Features are axes, so that a similarity is 0 or 1; a seventh of the images has another person's axis."""
    _, images = people(10, cameras=(1, 3))
    person = np.unique(images.identities, return_inverse=True)[1]
    axis = np.where(np.arange(len(images)) % 7 == 0, (person + 3) % 10, person)
    fit = fit_pairs(np.eye(10)[axis], images, exclude=None)["cross-modal"]
    visible, infrared = np.flatnonzero(~images.infrared), np.flatnonzero(images.infrared)
    alike = axis[visible][:, None] == axis[infrared]
    same = person[visible][:, None] == person[infrared]
    # The similarities stand in bins of 2e-4.
    assert fit.probability([0, 1]) == pytest.approx([same[~alike].mean(), same[alike].mean()], rel=1e-2)


def test_another_prevalence_multiplies_the_odds() -> None:
    features, images = people()
    fit = fit_pairs(features, images, exclude=ROOM)["cross-modal"]
    similarities = np.linspace(-1, 1, 9).reshape(3, 3)
    here, there = fit.probability(similarities), fit.probability(similarities, prevalence=1 / 5000)
    assert here.shape == (3, 3)
    assert (np.diff(here.ravel()) > 0).all()
    ratio = (1 / 4999) / (fit.prevalence / (1 - fit.prevalence))
    np.testing.assert_allclose(there / (1 - there), here / (1 - here) * ratio, rtol=1e-9)


def test_people_who_never_overlap_get_a_finite_curve() -> None:
    features, images = people(noise=1e-3)
    fit = fit_pairs(features, images, exclude=ROOM)["cross-modal"]
    assert np.isfinite([fit.slope, fit.intercept]).all()
    assert fit.probability([0.999]) > 0.99


def test_there_is_a_curve_only_for_pairs_that_there_are() -> None:
    features, images = people(0)
    assert fit_pairs(features, images, exclude=None) == {}
    features, images = people(cameras=(1, 3))
    assert list(fit_pairs(features, images, exclude=None)) == ["cross-modal"]
    alone = np.flatnonzero(images.identities == images.identities[0])
    images = Images(*(column[alone] for column in vars(images).values()))
    assert fit_pairs(features[alone], images, exclude=None) == {}


def test_a_calibration_is_read_where_it_belongs_to_the_weights(tmp_path: Path) -> None:
    features, images = people()
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    assert read_calibration(weights) is None
    calibration = Calibration(
        "synthetic", False, weights_digest(weights), fit_pairs(features, images, exclude=ROOM)
    )

    def write(what: Calibration) -> None:
        (tmp_path / FILE).write_text(json.dumps(what.to_json()))

    write(calibration)
    assert read_calibration(weights) == calibration
    assert calibration.probability(0.5, "visible") == calibration.fits["visible"].probability(0.5)
    write(replace(calibration, fits={}))
    assert read_calibration(weights) is None
    write(replace(calibration, weights="0" * 64))
    assert read_calibration(weights) is None
    (tmp_path / FILE).write_text('{"fits": {"visible": {}}}')
    with pytest.raises(UserError, match=r"calibration\.json is damaged .*dvc repro evaluate --force"):
        read_calibration(weights)
