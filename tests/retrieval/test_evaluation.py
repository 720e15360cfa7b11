"""Reports against the public ranking of each trial's own distances."""

import json
import statistics

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from msclnet.errors import UserError
from msclnet.retrieval.distance import cosine_distances
from msclnet.retrieval.evaluation import evaluate
from msclnet.retrieval.protocols import Images, same_room, sysu_mm01_protocol
from msclnet.retrieval.ranking import rank
from msclnet.retrieval.re_ranking import ReRanking, re_rank


def make_images(identities=20, per_cell=12):
    cells = [(i, c, k) for i in range(identities) for c in range(1, 7) for k in range(per_cell)]
    identity, camera, number = np.array(cells).T
    paths = [f"cam{c}/{i:04d}/{k:04d}.jpg" for i, c, k in cells]
    assert len(number) == len(paths)
    return Images.of(
        {"identities": identity, "cameras": camera, "infrared": np.isin(camera, (3, 6)), "paths": paths}
    )


def make_features(images, signal=0.6):
    generator = np.random.default_rng(0)
    people = generator.standard_normal((images.identities.max() + 1, 16))
    return signal * people[images.identities] + generator.standard_normal((len(images), 16))


def assert_trials(report, images, protocol, distances_of, *, tolerance):
    """Each trial's figures are the public ranking of its own distances."""
    query = protocol.queries
    for trial, gallery in enumerate(protocol.galleries):
        alone = rank(
            distances_of(query, gallery),
            images.identities[query],
            images.identities[gallery],
            query_cameras=images.cameras[query],
            gallery_cameras=images.cameras[gallery],
            exclude=same_room(2, 3),
            cmc_by_identity=True,
        )
        expected = {f"rank{k}": alone.at(k) for k in (1, 5, 10, 20)} | {"mAP": alone.mAP, "mINP": alone.mINP}
        found = {name: report["per_trial"][name][trial] for name in expected}
        assert found == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(("shots", "threads"), [(1, 1), (10, 1), (10, 3)])
def test_every_trial_is_the_public_ranking_of_its_own_distances(shots, threads):
    images = make_images(identities=45)  # more than one block of queries
    features = make_features(images)
    protocol = sysu_mm01_protocol(images, mode="all", shots=shots, sampler="agw", trials=3)
    report = evaluate(features, images, protocol, feature="pooled", threads=threads)
    distances = lambda query, gallery: cosine_distances(features[query], features[gallery])  # noqa: E731
    assert_trials(report, images, protocol, distances, tolerance=1e-6)


def test_features_crowded_into_a_narrow_cone_are_ranked_as_in_double_precision():
    """Features that are all alike but for a little, as those behind a ReLU are: public code multiplies in doubles."""
    images = make_images(identities=25)
    features = (100 + make_features(images)).astype(np.float32)
    protocol = sysu_mm01_protocol(images, mode="all", shots=1, sampler="agw", trials=2)
    report = evaluate(features, images, protocol, feature="pooled")
    exact = features.astype(float)
    distances = lambda query, gallery: cdist(exact[query], exact[gallery], "cosine")  # noqa: E731
    assert_trials(report, images, protocol, distances, tolerance=1e-6)


@pytest.mark.parametrize("shots", [1, 10])
def test_re_ranking_is_within_each_trial_and_before_the_exclusion(shots):
    images = make_images(identities=15)
    features = make_features(images)
    protocol = sysu_mm01_protocol(images, mode="all", shots=shots, sampler="agw", trials=3)
    settings = ReRanking(k1=12, k2=4, lambda_value=0.3)
    report = evaluate(features, images, protocol, feature="pooled", re_ranking=settings)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)

    def re_ranked(query, gallery):
        pairs = ((query, query), (query, gallery), (gallery, gallery))
        qq, qg, gg = (cdist(unit[a], unit[b], "sqeuclidean") for a, b in pairs)
        return re_rank(qq, qg, gg, settings)

    # these distances are exact to more digits: a pair of nearly equal ones may change places
    assert_trials(report, images, protocol, re_ranked, tolerance=1e-5)
    assert report["re_ranking"] == {"k1": 12, "k2": 4, "lambda": 0.3}
    plain = evaluate(features, images, protocol, feature="pooled")
    assert report["per_trial"]["mAP"] != plain["per_trial"]["mAP"]
    assert {name: report[name] for name in ("queries", "valid_queries", "gallery")} == {
        name: plain[name] for name in ("queries", "valid_queries", "gallery")
    }


def test_mean_and_sample_standard_deviation():
    images = make_images()
    protocol = sysu_mm01_protocol(images, mode="indoor", shots=1, sampler="agw", trials=10)
    report = evaluate(make_features(images), images, protocol, feature="pooled")
    for name in ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP"):
        values = report["per_trial"][name]
        assert len(values) == 10
        assert report[name]["mean"] == pytest.approx(statistics.fmean(values), abs=1e-12)
        assert report[name]["std"] == pytest.approx(statistics.stdev(values), abs=1e-12)
    assert report["rank1"]["std"] > 0
    assert report["cmc"][0] == pytest.approx(report["rank1"]["mean"], abs=1e-12)
    assert len(report["cmc"]) == 20


def test_a_report_carries_its_conventions_and_is_json():
    images = make_images(identities=4)
    protocol = sysu_mm01_protocol(images, mode="all", shots=10, sampler="agw", dataset="synthetic")
    report = json.loads(json.dumps(evaluate(make_features(images), images, protocol, feature="bnneck")))
    expected = {
        "dataset": "synthetic",
        "mode": "all",
        "shots": 10,
        "sampler": "agw",
        "direction": "infrared-to-visible",
        "feature": "bnneck",
        "re_ranking": False,
        "trials": 10,
        "queries": 4 * 2 * 12,
        "valid_queries": 4 * 2 * 12,
        "gallery": 4 * 4 * 10,
    }
    assert {name: report[name] for name in expected} == expected


def test_features_that_know_the_identity_are_perfect():
    images = make_images(identities=6)
    protocol = sysu_mm01_protocol(images, mode="all", shots=10, sampler="agw", trials=1)
    report = evaluate(np.eye(6)[images.identities], images, protocol, feature="oracle")
    assert [report[name]["mean"] for name in ("rank1", "mAP", "mINP")] == [1.0, 1.0, 1.0]
    assert report["mAP"]["std"] == 0.0  # of one trial


def test_mistakes_are_named():
    images = make_images(identities=4)
    protocol = sysu_mm01_protocol(images, mode="all", shots=1, sampler="agw")
    with pytest.raises(ValueError, match="3 features for 288 images"):
        evaluate(np.ones((3, 2)), images, protocol, feature="pooled")
    strangers = Images.of(
        {"identities": [1, 2], "cameras": [3, 1], "infrared": [True, False], "paths": ["a", "b"]}
    )
    protocol = sysu_mm01_protocol(strangers, mode="all", shots=1, sampler="agw")
    with pytest.raises(UserError, match="sysu-mm01 all 1 agw infrared-to-visible: none of the 1 queries"):
        evaluate(np.ones((2, 2)), strangers, protocol, feature="pooled")
