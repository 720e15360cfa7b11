import numpy as np
import pytest

from msclnet.retrieval.distance import cosine_distances, l2_normalise


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


def test_same_opposite_and_right_angle():
    np.testing.assert_allclose(
        cosine_distances(np.array([[3.0, 0.0]]), np.array([[1.0, 0], [-2, 0], [0, 5]])),
        [[0, 2, 1]],
        atol=1e-7,
    )


def test_very_long_and_very_short_features_keep_their_direction():
    for scale in (1e-25, 1e25):
        unit = l2_normalise(np.array([[3.0, 4.0]], np.float32) * np.float32(scale))
        np.testing.assert_allclose(unit, [[0.6, 0.8]], rtol=1e-6)


def test_input_is_left_alone():
    features = np.full((3, 2), 2.0, np.float32)
    l2_normalise(features)
    assert (features == 2).all()


@pytest.mark.parametrize(
    ("value", "fault"), [(0.0, "all zeros"), (np.nan, "NaN or infinity"), (np.inf, "NaN or infinity")]
)
def test_features_without_a_direction_are_named(value, fault):
    features = np.ones((600, 4), np.float32)
    features[540] = value
    with pytest.raises(ValueError, match=rf"feature 540 .*{fault}"):
        l2_normalise(features)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)"):
        cosine_distances(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="must be"):
        l2_normalise(np.ones(3))
