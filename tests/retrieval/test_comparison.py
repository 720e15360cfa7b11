"""Paired comparison on validation images: against scipy, loops over queries and draws, and the validation score."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from msclnet.retrieval.comparison import (
    FEWEST_IDENTITIES,
    ValidationScores,
    bootstrap,
    compare,
    validation_scores,
)
from msclnet.retrieval.evaluation import validation_figures, validation_protocols
from msclnet.retrieval.protocols import Images, same_room


def images_of(people: int = 8) -> Images:
    """Two images of each person by cameras 1, 2, 3 and 6, of which 3 and 6 are infrared."""
    identities, cameras = (x.ravel() for x in np.meshgrid(np.arange(people), np.repeat([1, 2, 3, 6], 2)))
    return Images(3 * identities + 1, cameras, np.isin(cameras, (3, 6)), np.arange(len(cameras)).astype(str))


def features_of(images: Images, *, noise: float, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(99, 8))[images.identities] + noise * generator.normal(size=(len(images), 8))


def scores_of(images: Images, *, noise: float = 1.0, seed: int = 0) -> ValidationScores:
    brightness = np.random.default_rng(5).uniform(0, 255, len(images))
    features = features_of(images, noise=noise, seed=seed)
    return validation_scores(features, images, brightness=brightness, exclude=same_room(2, 3))


def test_scores_of_queries_by_camera_are_those_of_a_loop() -> None:
    images = images_of()
    features, found = features_of(images, noise=1.0), scores_of(images)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for protocol in validation_protocols(images, exclude=same_room(2, 3)):
        for query in protocol.queries:
            for column, camera in enumerate([None, *found.gallery_cameras]):
                first, precision = [], []
                for gallery in protocol.galleries:
                    own = {int(images.cameras[query])}
                    kept = [
                        g
                        for g in gallery
                        if camera in (None, images.cameras[g])
                        and not own | {int(images.cameras[g])} <= {2, 3}
                    ]
                    ranked = sorted(kept, key=lambda g: -float(unit[query] @ unit[g]))
                    hits = [images.identities[g] == images.identities[query] for g in ranked]
                    if any(hits):
                        places = np.flatnonzero(hits)
                        first.append(places[0] == 0)
                        precision.append(np.mean(np.arange(1, len(places) + 1) / (places + 1)))
                expected = [np.mean(first), np.mean(precision)] if first else [np.nan, np.nan]
                actual = [found.rank1[query, column], found.average_precision[query, column]]
                np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_the_slice_of_all_queries_is_the_validation_score() -> None:
    images = images_of()
    a, b = scores_of(images, noise=0.8), scores_of(images, noise=1.3, seed=1)
    found = compare(a, b)
    for scores, mean in ((0.8, found["all"].candidate), (1.3, found["all"].champion)):
        features = features_of(images, noise=scores, seed=int(scores > 1))
        figures = validation_figures(features, images, feature="bnneck", exclude=same_room(2, 3))
        assert mean == pytest.approx(figures["score"], abs=1e-4)
    assert found["all"].score.value == pytest.approx(found["all"].candidate - found["all"].champion)
    assert found["infrared queries"].queries == 32
    parts = [found[f"infrared queries, {third}"].queries for third in ("dark", "medium", "bright")]
    assert sum(parts) == 32
    assert max(parts) - min(parts) <= 1
    pairs = {name for name in found if " searches " in name}
    assert pairs == {
        f"camera {a} searches camera {b}"
        for a, b in [(1, 3), (1, 6), (2, 6), (3, 1), (6, 1), (6, 2)]  # 2 and 3 stand in one room
    }


def test_intervals_are_those_of_scipy_and_of_a_loop_over_the_same_draws() -> None:
    generator = np.random.default_rng(0)
    identities = np.sort(generator.integers(0, 30, 200))
    differences = generator.normal(0.4, 1, 200) + generator.normal(size=30)[identities]
    found = bootstrap([differences], [identities], resamples=4000)
    people = np.unique(identities)
    sums = np.array([differences[identities == who].sum() for who in people])
    counts = np.array([(identities == who).sum() for who in people])
    expected = scipy_bootstrap(
        (sums, counts),
        lambda s, n, axis: s.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found.value == pytest.approx(differences.mean())
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], abs=0.03)

    draws = np.random.default_rng(7).multinomial(30, np.full(30, 1 / 30), size=50)
    means = [
        np.mean(
            [
                x
                for who, times in zip(people, draw, strict=True)
                for x in [*differences[identities == who]] * times
            ]
        )
        for draw in draws
    ]
    few = bootstrap([differences], [identities], resamples=50, seed=7)
    assert [few.low, few.high] == pytest.approx(np.quantile(means, [0.025, 0.975]), rel=1e-9)


def test_people_are_drawn_for_both_directions_at_once() -> None:
    """What one person gains as a visible query he loses as an infrared one: their mean never changes."""
    people = np.repeat(np.arange(6), 2)
    gain = np.random.default_rng(0).normal(size=6)[people]
    found = bootstrap([gain, -gain], [people, people])
    assert [found.value, found.low, found.high] == pytest.approx([0, 0, 0], abs=1e-12)


def test_too_few_people_have_no_interval() -> None:
    few = np.arange(FEWEST_IDENTITIES - 1)
    found = bootstrap([few.astype(float)], [few])
    assert (found.low, found.high) == (None, None)


def test_scores_are_read_as_they_were_written_and_know_their_images(tmp_path: Path) -> None:
    images = images_of()
    scores = scores_of(images)
    scores.save(tmp_path / "validation.npz")
    again = ValidationScores.load(tmp_path / "validation.npz")
    for each in fields(scores):
        np.testing.assert_array_equal(getattr(again, each.name), getattr(scores, each.name))
    assert again.of_same_images(scores_of(images, noise=3.0))
    assert not again.of_same_images(scores_of(images_of(9)))
