"""Cosine distances by their definition, and unlabelled search against sorting cosines by hand."""

import math

import numpy as np
import pytest

from msclnet.retrieval.distance import cosine_distances, l2_normalise, rank_gallery


def test_equals_the_definition_in_double_precision():
    generator = np.random.default_rng(0)
    queries, gallery = generator.standard_normal((530, 33)) * 7, generator.standard_normal((41, 33)) / 9
    distances = cosine_distances(queries, gallery)
    for q in (0, 511, 512, 529):
        for g in (0, 40):
            lengths = np.sqrt((queries[q] ** 2).sum() * (gallery[g] ** 2).sum())
            assert distances[q, g] == pytest.approx(1 - (queries[q] * gallery[g]).sum() / lengths, abs=1e-14)


def test_directions_that_single_precision_cannot_tell_apart_are_told_apart():
    nearer, farther = np.array([[1, 1e-5], [1, 2e-5]], np.float32)
    (distances,) = cosine_distances(np.array([[1, 0]], np.float32), np.stack([farther, nearer]))
    np.testing.assert_allclose(distances, [2e-10, 0.5e-10], rtol=1e-4)


def test_very_long_and_very_short_features_keep_their_direction():
    for scale in (1e-25, 1e25):
        unit = l2_normalise(np.array([[3.0, 4.0]], np.float32) * np.float32(scale))
        np.testing.assert_allclose(unit, [[0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "fault"), [(0.0, "all zeros"), (np.nan, "NaN or infinity"), (np.inf, "NaN or infinity")]
)
def test_features_without_a_direction_are_named(value, fault):
    features = np.ones((600, 4), np.float32)
    features[540] = value
    with pytest.raises(ValueError, match=rf"feature 540 .*{fault}"):
        l2_normalise(features)


def test_shapes_that_do_not_fit_are_refused():
    for distances in (cosine_distances, rank_gallery):
        with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)|one width"):
            distances(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="must be"):
        l2_normalise(np.ones(3))


def cosine(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


@pytest.mark.parametrize(("queries", "gallery"), [(1, 1), (3, 40), (7, 2)])
def test_sorted_by_cosine(queries, gallery):
    generator = np.random.default_rng(gallery)
    query_features = generator.standard_normal((queries, 6)) * generator.uniform(0.1, 50, (queries, 1))
    gallery_features = generator.standard_normal((gallery, 6)) * generator.uniform(0.1, 50, (gallery, 1))
    order, similarities = rank_gallery(query_features, gallery_features)
    for query, feature in enumerate(query_features.tolist()):
        expected = sorted(
            ((cosine(feature, other), place) for place, other in enumerate(gallery_features.tolist())),
            reverse=True,
        )
        assert order[query].tolist() == [place for _, place in expected]
        np.testing.assert_allclose(similarities[query], [value for value, _ in expected], atol=1e-6)


def test_equals_keep_the_order_of_the_gallery():
    gallery = np.array([[0, 1], [1, 0], [0, 2], [2, 0], [0, 3]], np.float32)
    order, similarities = rank_gallery(np.array([[0, 5]], np.float32), gallery)
    assert order.tolist() == [[0, 2, 4, 1, 3]]
    assert similarities.tolist() == [[1, 1, 1, 0, 0]]


def test_similarities_stay_within_one():
    features = np.random.default_rng(0).standard_normal((200, 33)).astype(np.float32)
    order, similarities = rank_gallery(features, np.concatenate([features, -features]))
    assert np.abs(similarities).max() <= 1
    assert order[:, 0].tolist() == list(range(200))
    np.testing.assert_allclose(similarities[:, 0], 1, atol=1e-6)
    np.testing.assert_allclose(similarities[:, -1], -1, atol=1e-6)
