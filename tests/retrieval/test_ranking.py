"""`rank` against a loop over the queries that shares nothing with it, and against foreign libraries."""

import doctest

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torchmetrics.functional.retrieval import retrieval_average_precision, retrieval_hit_rate

from msclnet.retrieval import ranking
from msclnet.retrieval.protocols import same_identity_and_camera, same_room
from msclnet.retrieval.ranking import rank


def naive(distances, query_ids, gallery_ids, *, excluded=None, by_identity=False, max_rank=20):
    """The definitions, one query and one list entry at a time; Python's sort is stable."""
    hits, precisions, penalties, valid = [0] * max_rank, [], [], 0
    for q, row in enumerate(distances):
        order = sorted(range(len(row)), key=lambda g: row[g])
        kept = [gallery_ids[g] for g in order if excluded is None or not excluded[q][g]]
        match_ranks = [place for place, identity in enumerate(kept, start=1) if identity == query_ids[q]]
        if not match_ranks:
            continue
        valid += 1
        precisions.append(sum(n / r for n, r in enumerate(match_ranks, start=1)) / len(match_ranks))
        penalties.append(len(match_ranks) / match_ranks[-1])
        curve = list(dict.fromkeys(kept)) if by_identity else kept
        first = curve.index(query_ids[q]) + 1
        for k in range(first, max_rank + 1):
            hits[k - 1] += 1
    return [h / valid for h in hits], sum(precisions) / valid, sum(penalties) / valid, valid


def assert_equal_to_naive(distances, query_ids, gallery_ids, *, excluded, by_identity, result):
    cmc, mean_ap, mean_inp, valid = naive(
        distances.tolist(),
        query_ids.tolist(),
        gallery_ids.tolist(),
        excluded=excluded,
        by_identity=by_identity,
    )
    assert result.valid == valid
    assert result.queries == len(query_ids)
    np.testing.assert_array_equal(result.cmc, cmc)
    assert result.mAP == pytest.approx(mean_ap, abs=1e-12)
    assert result.mINP == pytest.approx(mean_inp, abs=1e-12)


def draw_case(seed, *, queries, gallery, identities, levels=None, dtype: type = np.float32):
    generator = np.random.default_rng(seed)
    distances = generator.standard_normal((queries, gallery)).astype(dtype)
    if levels:  # few distances, so that most of them are tied
        distances = generator.integers(0, levels, (queries, gallery)).astype(dtype)
    return (
        distances,
        generator.integers(0, identities, queries),
        generator.integers(0, identities + 1, gallery),
        generator.integers(1, 7, queries),
        generator.integers(1, 7, gallery),
    )


@pytest.mark.parametrize("by_identity", [False, True])
@pytest.mark.parametrize("levels", [None, 1, 7])
@pytest.mark.parametrize("rule", ["none", "room", "identity_camera", "mask"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_naive_loop(seed, rule, levels, by_identity):
    shapes = np.random.default_rng(seed + 100)
    queries, gallery, identities = shapes.integers(1, [60, 90, 12])
    distances, query_ids, gallery_ids, query_cams, gallery_cams = draw_case(
        seed, queries=queries, gallery=gallery + 20, identities=identities, levels=levels
    )
    gallery_ids[:3] = query_ids[0]  # at least one query is valid whatever the draw ...
    gallery_cams[:3], query_cams[0] = 5, 4  # ... and stays so
    excluded = np.zeros(distances.shape, bool)
    for q, g in np.ndindex(*distances.shape):
        in_room = query_cams[q] in (2, 3) and gallery_cams[g] in (2, 3)
        own = query_ids[q] == gallery_ids[g] and query_cams[q] == gallery_cams[g]
        noise = (q * 7 + g * 3) % 5 == 0 and not (q == 0 and g < 3)
        excluded[q, g] = {"none": False, "room": in_room, "identity_camera": own, "mask": noise}[rule]
    exclude = {
        "none": None,
        "room": same_room(2, 3),
        "identity_camera": same_identity_and_camera,
        "mask": excluded,
    }[rule]
    result = rank(
        distances,
        query_ids,
        gallery_ids,
        query_cameras=query_cams,
        gallery_cameras=gallery_cams,
        exclude=exclude,
        cmc_by_identity=by_identity,
    )
    assert_equal_to_naive(
        distances, query_ids, gallery_ids, excluded=excluded, by_identity=by_identity, result=result
    )


@pytest.mark.parametrize("identities", [1, 3, 40])
def test_more_than_one_block_and_more_matches_than_are_compared_at_a_time(identities, monkeypatch):
    distances, query_ids, gallery_ids, *_ = draw_case(
        5, queries=1030, gallery=230, identities=identities, levels=300
    )
    monkeypatch.setattr(ranking, "BLOCK_CELLS", 100 * 230 + 229)  # ten blocks of 100 queries and one of 30
    result = rank(distances, query_ids, gallery_ids, cmc_by_identity=True)
    assert_equal_to_naive(distances, query_ids, gallery_ids, excluded=None, by_identity=True, result=result)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.uint8])
def test_every_number_type_is_ranked_without_loss(dtype):
    distances, query_ids, gallery_ids, *_ = draw_case(
        8, queries=40, gallery=70, identities=6, dtype=np.float64
    )
    # float64 values that float32 cannot tell apart; large integers likewise
    values = {
        np.float64: 1 + distances * 1e-12,
        np.int32: 2**30 + distances * 9,
        np.uint8: (distances * 40 + 128).clip(0, 255),
    }
    cast = np.asarray(values.get(dtype, distances)).astype(dtype)
    result = rank(cast, query_ids, gallery_ids)
    assert_equal_to_naive(cast, query_ids, gallery_ids, excluded=None, by_identity=False, result=result)


def test_a_tie_goes_to_the_image_that_comes_first_in_the_gallery():
    for tie in ([[0.5, 0.5]], [[0.0, -0.0]], [[-0.0, 0.0]]):
        wrong_first, right_first = rank(tie, [1], [2, 1]), rank(tie, [1], [1, 2])
        assert (wrong_first.at(1), wrong_first.mAP, wrong_first.mINP) == (0.0, 0.5, 0.5)
        assert (right_first.at(1), right_first.mAP, right_first.mINP) == (1.0, 1.0, 1.0)


def test_an_infinite_distance_is_last_of_the_kept_ones_but_no_excluded_one_stands_before_it():
    excluded = np.array([[True, False, False, False]])
    result = rank([[0.1, np.inf, np.inf, -np.inf]], [1], [2, 1, 3, 4], exclude=excluded)
    assert (result.at(1), result.at(2), result.mAP) == (0.0, 1.0, 0.5)
    by_identity = rank(
        [[0.1, np.inf, np.inf, -np.inf]], [1], [2, 1, 3, 4], exclude=excluded, cmc_by_identity=True
    )
    assert (by_identity.at(1), by_identity.at(2)) == (0.0, 1.0)


def test_negated_similarities_rank_as_distances_do():
    distances, query_ids, gallery_ids, *_ = draw_case(2, queries=30, gallery=50, identities=5)
    shifted = rank(distances + 10, query_ids, gallery_ids)
    distances.flags.writeable = False  # and arguments are left as they were
    negative = rank(distances - 10, query_ids, gallery_ids)
    np.testing.assert_array_equal(shifted.cmc, negative.cmc)
    assert negative.mAP == pytest.approx(rank(-(10 - distances), query_ids, gallery_ids).mAP, abs=1e-12)


def test_cmc_by_identity_leaves_out_repeated_identities():
    distances, gallery_ids = [[1, 2, 3, 4, 5, 6]], [7, 7, 7, 8, 5, 5]
    assert rank(distances, [5], gallery_ids).cmc.tolist()[:6] == [0, 0, 0, 0, 1, 1]
    reduced = rank(distances, [5], gallery_ids, cmc_by_identity=True)
    assert reduced.cmc.tolist()[:6] == [0, 0, 1, 1, 1, 1]
    assert reduced.mAP == pytest.approx((1 / 5 + 2 / 6) / 2)
    assert reduced.mINP == pytest.approx(2 / 6)


def test_a_camera_3_query_ignores_camera_2_whatever_the_identity():
    distances = [[1, 2, 3], [1, 2, 3]]
    arguments = {"query_cameras": [3, 6], "gallery_cameras": [2, 2, 1], "exclude": same_room(2, 3)}
    result = rank(distances, [5, 5], [9, 5, 5], **arguments)
    # camera 3: [5] is left, so rank 1; camera 6: [9, 5, 5] is left, so rank 2
    assert result.cmc.tolist()[:2] == [0.5, 1.0]
    assert result.mAP == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)


def test_means_are_over_valid_queries_only():
    # the second query's only match is excluded, the third's identity is not in the gallery
    result = rank(
        [[1, 2], [1, 2], [1, 2]],
        [5, 6, 7],
        [6, 5],
        query_cameras=[1, 2, 1],
        gallery_cameras=[2, 2],
        exclude=same_identity_and_camera,
    )
    assert (result.valid, result.queries) == (1, 3)
    assert (result.at(1), result.at(2), result.mAP, result.mINP) == (0.0, 1.0, 0.5, 0.5)


def test_agrees_with_scikit_learn_and_with_torchmetrics_where_scores_are_positive():
    # torchmetrics leaves out relevant items with a score <= 0, so the scores are moved above it
    distances, query_ids, gallery_ids, *_ = draw_case(4, queries=50, gallery=80, identities=6)
    result = rank(distances, query_ids, gallery_ids)
    targets = query_ids[:, None] == gallery_ids
    valid = np.flatnonzero(targets.any(axis=1))
    expected = [average_precision_score(targets[q], -distances[q]) for q in valid]
    assert result.mAP == pytest.approx(np.mean(expected), abs=1e-9)
    scores = torch.from_numpy(distances.max() + 1 - distances)
    precisions = [retrieval_average_precision(scores[q], torch.from_numpy(targets[q])).item() for q in valid]
    assert result.mAP == pytest.approx(np.mean(precisions), abs=1e-5)
    for k in (1, 5, 10, 20):
        hits = [retrieval_hit_rate(scores[q], torch.from_numpy(targets[q]), top_k=k).item() for q in valid]
        assert result.at(k) == pytest.approx(np.mean(hits), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distances_QG": [[0.1, np.nan]]}, "query 0 to gallery image 1 is NaN"),
        ({"distances_QG": [[0.1, np.nan]], "exclude": [[False, True]]}, "NaN"),
        ({"distances_QG": [[0.1]]}, r"distances has shape \(1, 1\)"),
        ({"exclude": [[True]]}, "exclude has shape"),
        ({"exclude": same_room(2, 3)}, "needs query_cameras"),
        (
            {"exclude": same_room(2, 3), "query_cameras": [1, 2], "gallery_cameras": [1, 2]},
            "query_cameras has shape",
        ),
        ({"query_identities": [3]}, "none of the 1 queries has a match"),
        ({"exclude": [[True, True]]}, "none of the 1 queries has a match"),
        ({"max_rank": 0}, "max_rank"),
    ],
)
def test_mistakes_are_named(change, message):
    arguments = {"distances_QG": [[0.1, 0.2]], "query_identities": [1], "gallery_identities": [1, 2]}
    with pytest.raises(ValueError, match=message):
        rank(**(arguments | change))


def test_ranks_outside_the_curve_are_refused():
    result = rank([[0.1, 0.2]], [1], [1, 2], max_rank=3)
    assert result.cmc.tolist() == [1, 1, 1]
    for k in (0, 4):
        with pytest.raises(ValueError, match=r"not within 1 \.\. 3"):
            result.at(k)


def test_the_example_in_the_documentation_is_true():
    found = doctest.testmod(ranking)
    assert found.failed == 0 < found.attempted
