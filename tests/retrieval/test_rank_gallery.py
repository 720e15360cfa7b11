"""Unlabelled search against sorting cosines by hand."""

import math

import numpy as np
import pytest

from msclnet.retrieval.distance import rank_gallery


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


def test_features_without_a_direction_are_refused():
    with pytest.raises(ValueError, match="all zeros"):
        rank_gallery(np.ones((1, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="one width"):
        rank_gallery(np.ones((1, 3)), np.ones((2, 4)))
