"""Re-ranking against the method's definitions, written down with sets and loops."""

import math

import numpy as np
import pytest

from msclnet.retrieval import re_ranking
from msclnet.retrieval.re_ranking import ReRanking, re_rank

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


def by_definition(qq, qg, gg, k1, k2, lambda_value):
    """The steps of section 3 of the paper, one image and one set at a time."""
    queries, everybody = len(qq), range(len(qq) + len(gg))
    distance = np.block([[qq, qg], [qg.T, gg]]).astype(float)
    largest = distance.max(axis=1, keepdims=True)
    distance = distance / np.where(largest > 0, largest, 1)

    def ranking(p):
        others = sorted((i for i in everybody if i != p), key=lambda i: (distance[p, i], i))
        return [p, *others]

    lists = [ranking(p) for p in everybody]

    def mutual(p, k):
        return {i for i in lists[p][: k + 1] if p in lists[i][: k + 1]}

    descriptions = []
    for p in everybody:
        first = mutual(p, k1)
        expanded = set(first)
        for q in first:
            theirs = mutual(q, round(k1 / 2))
            if 3 * len(first & theirs) > 2 * len(theirs):
                expanded |= theirs
        weights = {i: math.exp(-distance[p, i]) for i in expanded}
        descriptions.append({i: weight / sum(weights.values()) for i, weight in weights.items()})
    averaged = []
    for p in everybody:
        nearest = lists[p][:k2]
        averaged.append([sum(descriptions[n].get(i, 0.0) for n in nearest) / len(nearest) for i in everybody])
    result = np.empty(qg.shape)
    for q in range(queries):
        for g in range(len(gg)):
            ours, theirs = averaged[q], averaged[queries + g]
            shared = sum(min(a, b) for a, b in zip(ours, theirs, strict=True))
            either = sum(max(a, b) for a, b in zip(ours, theirs, strict=True))
            jaccard = 1 - shared / either
            result[q, g] = lambda_value * distance[q, queries + g] + (1 - lambda_value) * jaccard
    return result


def distances(queries, gallery, *, seed=0, people=6) -> Triple:
    """Squared Euclidean distances within noisy clusters."""
    generator = np.random.default_rng(seed)
    centres = 1.5 * generator.standard_normal((people, 8))
    points = centres[generator.integers(0, people, queries + gallery)]
    points = points + generator.standard_normal(points.shape)
    whole = np.square(points[:, None] - points[None]).sum(axis=2)
    return whole[:queries, :queries], whole[:queries, queries:], whole[queries:, queries:]


def tied(queries, gallery, *, seed=0) -> Triple:
    """Few different values, and images that coincide."""
    generator = np.random.default_rng(seed)
    points = generator.integers(0, 3, (queries + gallery, 2))
    whole = np.abs(points[:, None] - points[None]).sum(axis=2).astype(float)
    return whole[:queries, :queries], whole[:queries, queries:], whole[queries:, queries:]


SETTINGS = [(20, 6, 0.3), (7, 1, 0.0), (5, 3, 0.5), (1, 1, 0.2), (2, 9, 0.9), (100, 100, 0.3)]


CASES = [(23, 18, *settings) for settings in SETTINGS]
CASES += [(*sizes, 7, 3, 0.3) for sizes in ((12, 40), (30, 2), (1, 5), (1, 1))]


@pytest.mark.parametrize(("queries", "gallery", "k1", "k2", "lambda_value"), CASES)
@pytest.mark.parametrize("make", [distances, tied])
def test_as_defined(make, queries, gallery, k1, k2, lambda_value):
    qq, qg, gg = make(queries, gallery, seed=queries + k1)
    ours = re_rank(qq, qg, gg, ReRanking(k1, k2, lambda_value))
    assert ours.dtype == np.float32
    expected = by_definition(qq, qg, gg, k1, k2, lambda_value)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


def test_blocks_of_rows_do_not_show(monkeypatch):
    given = distances(37, 24)
    whole = re_rank(*given, ReRanking(8, 3, 0.3))
    monkeypatch.setattr(re_ranking, "BLOCK_ROWS", 7)
    np.testing.assert_array_equal(re_rank(*given, ReRanking(8, 3, 0.3)), whole)


def test_original_alone_is_the_given_distance_over_the_row_s_largest():
    qq, qg, gg = distances(25, 40)
    ours = re_rank(qq, qg, gg, ReRanking(20, 6, 1.0))
    largest = np.maximum(qq.max(axis=1), qg.max(axis=1))
    np.testing.assert_allclose(ours, qg / largest[:, None], rtol=1e-6)


def test_scale_type_and_order_of_the_gallery_do_not_matter():
    qq, qg, gg = distances(25, 40)
    order = np.random.default_rng(1).permutation(40)
    settings = ReRanking(10, 4, 0.3)
    changed = (qq, qg[:, order], gg[np.ix_(order, order)])
    found = re_rank(*[(3.7 * matrix).astype(np.float32) for matrix in changed], settings)  # pyright: ignore
    np.testing.assert_allclose(found, re_rank(qq, qg, gg, settings)[:, order], atol=1e-6)


def test_a_neighbour_that_is_not_mutual_falls_back():
    """On a line: query at 0; a at 1.0, b at -1.1; a has two companies of its own, nearer than the query."""
    places = np.array([0.0, 1.0, 1.3, 1.4, -1.1])
    whole = np.abs(places[:, None] - places[None])
    ours = re_rank(whole[:1, :1], whole[:1, 1:], whole[1:, 1:], ReRanking(2, 1, 0.0))
    # b alone has the query among its two nearest, as the query has it
    assert ours[0].argmin() == 3
    assert whole[0, 1:].argmin() == 0


def test_images_that_all_coincide():
    ours = re_rank(np.zeros((2, 2)), np.zeros((2, 3)), np.zeros((3, 3)), ReRanking(10, 10, 0.3))
    np.testing.assert_allclose(ours, 0, atol=1e-7)


@pytest.mark.parametrize("wrong", [{"k1": 0}, {"k2": 0}, {"lambda_value": -0.1}, {"lambda_value": 1.1}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        ReRanking(**{"k1": 20, "k2": 6, "lambda_value": 0.3, **wrong})


def test_distances_that_do_not_fit():
    qq, qg, gg = distances(5, 7)
    settings = ReRanking(3, 2, 0.3)
    with pytest.raises(ValueError, match="gallery-gallery distances have shape"):
        re_rank(qq, qg, gg[:6, :6], settings)
    with pytest.raises(ValueError, match="query-query distances have shape"):
        re_rank(qq[:4], qg, gg, settings)
    with pytest.raises(ValueError, match=r"must be \(Q, G\)"):
        re_rank(qq[:0, :0], qg[:0], gg, settings)
    qg[2, 3] = np.nan
    with pytest.raises(ValueError, match="query-gallery distances hold NaN"):
        re_rank(qq, qg, gg, settings)
