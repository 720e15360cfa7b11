"""t-SNE: reproducible, and adapted to few points."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from msclnet.figures.embeddings import pick_identities, tsne


def test_identities_stay_together_in_the_plane(make_features):
    sample = make_features(6, 8, shift=0.2)
    points_N2 = tsne(sample.features, seed=0, perplexity=10)
    assert points_N2.shape == (96, 2)
    agree = 0
    for i in range(96):
        gaps = [np.hypot(*(points_N2[i] - points_N2[j])) if j != i else np.inf for j in range(96)]
        agree += sample.identities[int(np.argmin(gaps))] == sample.identities[i]
    assert agree > 0.95 * 96


def test_result_depends_on_direction_and_seed_alone(make_features):
    sample = make_features(5, 4)
    expected = tsne(sample.features, seed=3, perplexity=5)
    with threadpool_limits(limits=2):
        assert np.array_equal(expected, tsne(sample.features, seed=3, perplexity=5))
    assert np.allclose(expected, tsne(sample.features * np.float32(4), seed=3, perplexity=5))


def test_large_perplexity_becomes_a_third_of_the_other_points(make_features):
    features_ND = make_features(2, 4).features
    assert len(features_ND) == 16
    assert np.array_equal(tsne(features_ND, seed=0, perplexity=30), tsne(features_ND, seed=0, perplexity=5))
    assert not np.array_equal(
        tsne(features_ND, seed=0, perplexity=30), tsne(features_ND, seed=0, perplexity=4)
    )
    assert np.isfinite(tsne(features_ND[:4], seed=0)).all()


def test_collapsed_features_lie_at_the_origin():
    assert np.array_equal(tsne(np.ones((10, 4)) * np.arange(1, 11)[:, None], seed=0), np.zeros((10, 2)))


@pytest.mark.parametrize("shape", [(3, 8), (10, 1)])
def test_too_little_is_refused(shape):
    with pytest.raises(ValueError, match="at least 4 points of 2 channels"):
        tsne(np.ones(shape), seed=0)


def test_picked_identities_were_seen_in_both_modalities():
    identities_N = np.array([5, 5, 7, 7, 9, 9, 11, 2, 2])
    infrared_N = np.array([0, 1, 0, 0, 1, 0, 1, 1, 0], bool)
    assert pick_identities(identities_N, infrared_N, count=10, seed=0).tolist() == [2, 5, 9]
    draws = {tuple(pick_identities(identities_N, infrared_N, count=2, seed=seed)) for seed in range(30)}
    assert draws == {(2, 5), (2, 9), (5, 9)}
    assert len({tuple(pick_identities(identities_N, infrared_N, count=2, seed=1)) for _ in range(5)}) == 1
    with pytest.raises(ValueError, match="both modalities"):
        pick_identities(identities_N, np.ones(9, bool), count=2, seed=0)
    with pytest.raises(ValueError, match="at least 1"):
        pick_identities(identities_N, infrared_N, count=0, seed=0)
