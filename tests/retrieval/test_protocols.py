"""Who queries whom, by exact counts and by galleries drawn again by hand."""

import itertools
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from msclnet.errors import UserError
from msclnet.retrieval.evaluation import evaluate, query_exclusion, validate, validation_protocols
from msclnet.retrieval.protocols import (
    DIRECTIONS,
    Images,
    folder_protocols,
    llcm_protocol,
    regdb_protocol,
    sysu_mm01_protocol,
)
from msclnet.retrieval.sampling import read_permutations

SPLITS = Path(
    os.environ.get("MSCLNET_SYSU_SPLITS", Path(__file__).resolve().parents[3] / "shared" / "sysu-mm01")
)
needs_splits = pytest.mark.skipif(
    not (SPLITS / "rand_perm_cam.mat").is_file(), reason="SYSU-MM01's split files are not here"
)
VISIBLE = (1, 2, 4, 5)


def make_images(counts, *, infrared=lambda camera: camera in (3, 6), shuffle=None):
    """`counts`: (identity, camera) -> number of images, or (identity, camera, is_infrared) -> number."""
    rows = []
    for (identity, camera, *modality), count in counts.items():
        is_infrared = modality[0] if modality else infrared(camera)
        name = f"{'nir' if is_infrared else 'vis'}/cam{camera}/{identity:04d}"
        rows += [(identity, camera, is_infrared, f"{name}/{k:04d}.jpg") for k in range(1, count + 1)]
    if shuffle is not None:
        random.Random(shuffle).shuffle(rows)
    names = ("identities", "cameras", "infrared", "paths")
    return Images.of(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def sysu_counts():
    """Counts that a small SYSU-MM01 might have: some cells empty, some with fewer than ten images."""
    generator = random.Random(3)
    return {
        (identity, camera): generator.randint(4, 14)
        for identity, camera in itertools.product((6, 10, 103, 1002), range(1, 7))
        if (identity, camera) not in {(10, 1), (10, 2), (103, 4), (1002, 3)}
    }


def write_permutations(path, counts, *, trials=10, seed=0):
    """A file of the official shape: camera x identity cells of trials x images tables."""
    generator = np.random.default_rng(seed)
    cameras = np.empty((6, 1), object)
    for camera in range(1, 7):
        cameras[camera - 1, 0] = np.empty((max(identity for identity, _ in counts), 1), object)
        for identity in range(1, len(cameras[camera - 1, 0]) + 1):
            n = counts.get((identity, camera), 0)
            rows = [generator.permutation(n) + 1 for _ in range(trials)] if n else np.empty((0, 0))
            cameras[camera - 1, 0][identity - 1, 0] = np.array(rows, np.uint8)
    savemat(path, {"rand_perm_cam": cameras})
    return path


@pytest.fixture(scope="module")
def official():
    table = loadmat(SPLITS / "rand_perm_cam.mat")["rand_perm_cam"]
    identities = loadmat(SPLITS / "test_id.mat")["id"].ravel().tolist()
    counts = {
        (identity, camera): table[camera - 1, 0][identity - 1, 0].shape[1]
        for camera in range(1, 7)
        for identity in identities
        if table[camera - 1, 0][identity - 1, 0].size
    }
    return table, make_images(counts, shuffle=0)


@needs_splits
@pytest.mark.parametrize("sampler", ["official", "agw"])
@pytest.mark.parametrize(
    ("mode", "shots", "gallery", "valid"),
    [("all", 1, 301, 3803), ("all", 10, 3010, 3803), ("indoor", 1, 112, 2208), ("indoor", 10, 1120, 2208)],
)
def test_sysu_published_counts(official, mode, shots, gallery, valid, sampler):
    _, images = official
    protocol = sysu_mm01_protocol(
        images, mode=mode, shots=shots, sampler=sampler, permutations_path=SPLITS / "rand_perm_cam.mat"
    )
    features = np.random.default_rng(0).standard_normal((len(images), 8))
    assert [len(g) for g in protocol.galleries] == [gallery] * 10
    first = replace(protocol, galleries=protocol.galleries[:1])  # ranking takes seconds
    report = evaluate(features, images, first, feature="random")
    assert (report["queries"], report["valid_queries"], report["gallery"]) == (3803, valid, gallery)


@needs_splits
@pytest.mark.parametrize(("mode", "cameras"), [("all", VISIBLE), ("indoor", (1, 2))])
@pytest.mark.parametrize("shots", [1, 10])
def test_sysu_official_galleries_image_by_image(official, mode, cameras, shots):
    table, images = official
    protocol = sysu_mm01_protocol(
        images, mode=mode, shots=shots, sampler="official", permutations_path=SPLITS / "rand_perm_cam.mat"
    )
    present = sorted(set(images.identities.tolist()))
    for trial, gallery in enumerate(protocol.galleries):
        expected = [
            f"vis/cam{camera}/{identity:04d}/{number:04d}.jpg"
            for camera in cameras
            for identity in present
            if table[camera - 1, 0][identity - 1, 0].size
            for number in table[camera - 1, 0][identity - 1, 0][trial, :shots]
        ]
        assert images.paths[gallery].tolist() == expected


@pytest.mark.parametrize("shots", [1, 10])
def test_sysu_official_sampler_with_a_table_of_our_own(tmp_path, shots):
    counts = {cell: max(n, 10) for cell, n in sysu_counts().items()}
    path = write_permutations(tmp_path / "rand_perm_cam.mat", counts)
    images = make_images(counts, shuffle=1)
    protocol = sysu_mm01_protocol(
        images, mode="indoor", shots=shots, sampler="official", permutations_path=path
    )
    table = loadmat(path)["rand_perm_cam"]
    for trial, gallery in enumerate(protocol.galleries):
        assert images.paths[gallery].tolist() == [
            f"vis/cam{camera}/{identity:04d}/{number:04d}.jpg"
            for camera in (1, 2)
            for identity in (6, 103, 1002)
            for number in table[camera - 1, 0][identity - 1, 0][trial, :shots]
        ]


def test_sysu_agw_sampler_is_seeded_choice_over_sorted_files():
    counts = sysu_counts()
    images = make_images(counts, shuffle=2)
    protocol = sysu_mm01_protocol(images, mode="all", shots=1, sampler="agw")
    assert protocol.queries.tolist() == [i for i, camera in enumerate(images.cameras) if camera in (3, 6)]
    for trial, gallery in enumerate(protocol.galleries):
        random.seed(trial)
        expected = []
        for identity, camera in itertools.product((6, 10, 103, 1002), VISIBLE):
            if (identity, camera) in counts:
                folder = f"vis/cam{camera}/{identity:04d}/"
                names = sorted(path for path in images.paths.tolist() if path.startswith(folder))
                expected.append(random.choice(names))
        assert images.paths[gallery].tolist() == expected


def test_sysu_agw_multi_shot_takes_ten_different_images_or_all():
    counts = sysu_counts()
    images = make_images(counts)
    protocol = sysu_mm01_protocol(images, mode="all", shots=10, sampler="agw")
    for gallery in protocol.galleries:
        assert len(set(gallery.tolist())) == len(gallery)
        drawn = list(zip(images.identities[gallery].tolist(), images.cameras[gallery].tolist(), strict=True))
        expected = {cell: min(10, n) for cell, n in counts.items() if cell[1] in VISIBLE}
        assert {cell: drawn.count(cell) for cell in set(drawn)} == expected


def test_sysu_camera_2_cannot_help_a_camera_3_query():
    # identity 6 is seen by camera 2 only: of its queries those of camera 6 alone have a match
    images = make_images({(6, 2): 3, (6, 3): 4, (6, 6): 5, (7, 1): 2, (7, 6): 1})
    protocol = sysu_mm01_protocol(images, mode="all", shots=1, sampler="agw")
    report = evaluate(np.eye(len(images)) + 0.1, images, protocol, feature="eye")
    assert (report["queries"], report["valid_queries"], report["gallery"]) == (10, 6, 2)


def test_sysu_mistakes_are_named(tmp_path):
    counts = sysu_counts()
    images = make_images(counts)

    def official_from(path):
        return sysu_mm01_protocol(images, mode="all", shots=1, sampler="official", permutations_path=path)

    with pytest.raises(UserError, match=r"absent\.mat is missing.*sampler `agw`"):
        official_from(tmp_path / "absent.mat")
    (tmp_path / "text.mat").write_text("not a table, but long enough to look like one" * 10)
    with pytest.raises(UserError, match=r"text\.mat is not SYSU-MM01's"):
        official_from(tmp_path / "text.mat")
    savemat(tmp_path / "other.mat", {"id": [1]})
    with pytest.raises(UserError, match=r"other\.mat is not SYSU-MM01's"):
        official_from(tmp_path / "other.mat")
    partial = write_permutations(tmp_path / "partial.mat", counts | {(103, 5): counts[103, 5] + 1})
    with pytest.raises(UserError, match="identity 103 by camera 5"):
        official_from(partial)
    with pytest.raises(UserError, match="has 3 trials"):
        official_from(write_permutations(tmp_path / "short.mat", counts, trials=3))
    with pytest.raises(ValueError, match="permutations_path"):
        official_from(None)
    for mode, shots, sampler in (("outdoor", 1, "agw"), ("all", 5, "agw"), ("all", 1, "mine")):
        with pytest.raises(ValueError, match="must be one of"):
            sysu_mm01_protocol(images, mode=mode, shots=shots, sampler=sampler)
    swapped = make_images({(1, 1): 1, (1, 3): 1}, infrared=lambda camera: camera == 1)
    with pytest.raises(ValueError, match="cameras 3 and 6 alone are infrared"):
        sysu_mm01_protocol(swapped, mode="all", shots=1, sampler="agw")
    with pytest.raises(UserError, match="no query image"):
        sysu_mm01_protocol(make_images({(1, 1): 2}), mode="all", shots=1, sampler="agw")
    with pytest.raises(UserError, match="no gallery image"):
        sysu_mm01_protocol(make_images({(1, 4): 2, (1, 3): 2}), mode="indoor", shots=1, sampler="agw")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_regdb_every_image_queries_every_image_of_the_other_modality(direction):
    counts = {(identity, camera): 10 for identity in range(206) for camera in (1, 2)}
    images = make_images(counts, infrared=lambda camera: camera == 2)
    protocol = regdb_protocol(images, direction=direction)
    report = evaluate(np.random.default_rng(0).random((len(images), 4)), images, protocol, feature="random")
    assert (report["queries"], report["valid_queries"], report["gallery"]) == (2060, 2060, 2060)
    assert (report["trials"], report["shots"], report["sampler"]) == (1, None, None)
    assert set(images.infrared[protocol.queries].tolist()) == {direction == "infrared-to-visible"}
    assert set(images.infrared[protocol.galleries[0]].tolist()) == {direction == "visible-to-infrared"}


def test_regdb_counts_images_and_not_identities():
    # two images of another person come first: Rank-2 is a miss, though the identity is second
    images = make_images({(1, 1): 2, (2, 1): 1, (2, 2): 1}, infrared=lambda camera: camera == 2)
    features = [[1, 0], [0.99, 0.1], [0.5, 0.5], [1, 0.01]]
    report = evaluate(
        np.array(features), images, regdb_protocol(images, direction="infrared-to-visible"), feature="hand"
    )
    assert report["cmc"][:3] == [0, 0, 1]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_llcm_one_gallery_image_of_each_identity_and_camera(direction):
    counts = {
        (identity, camera, is_infrared): 2 + (identity + camera) % 3
        for identity in (4, 9, 30)
        for camera in range(1, 10)
        for is_infrared in (False, True)
        if not (is_infrared and camera == 3) and (identity, camera) != (9, 5)
    }
    images = make_images(counts, shuffle=6)
    protocol = llcm_protocol(images, direction=direction)
    queried = direction == "infrared-to-visible"
    assert protocol.queries.tolist() == [i for i, flag in enumerate(images.infrared) if flag == queried]
    expected = sorted((i, c) for i, c, flag in counts if flag != queried)
    for trial, gallery in enumerate(protocol.galleries):
        drawn = list(zip(images.identities[gallery].tolist(), images.cameras[gallery].tolist(), strict=True))
        assert drawn == expected
        assert set(images.infrared[gallery].tolist()) == {not queried}
        random.seed(trial)
        folders = [f"{'vis' if queried else 'nir'}/cam{c}/{i:04d}/" for i, c in expected]
        names = [sorted(p for p in images.paths.tolist() if p.startswith(folder)) for folder in folders]
        assert images.paths[gallery].tolist() == [random.choice(group) for group in names]


def test_llcm_removes_the_own_camera_of_the_own_identity_only():
    images = make_images(
        {(1, 1, False): 1, (1, 2, False): 1, (2, 1, False): 1, (1, 1, True): 1, (2, 1, True): 1}
    )
    protocol = llcm_protocol(images, direction="infrared-to-visible", trials=1)
    # query of identity 1, camera 1: nearest is its own camera's image (removed), then 2, then the match
    features = np.array([[1, 0], [0, 1], [0.9, 0.3], [1, 0.05], [0.5, 0.5]])
    report = evaluate(features, images, protocol, feature="hand")
    assert (report["valid_queries"], report["rank1"]["mean"], report["cmc"][1]) == (1, 0.0, 1.0)


def test_directions_and_columns_are_checked():
    images = make_images({(1, 1): 2, (1, 3): 2})
    for protocol in (regdb_protocol, llcm_protocol):
        with pytest.raises(ValueError, match="direction must be one of"):
            protocol(images, direction="both")
    with pytest.raises(ValueError, match="one length"):
        Images.of({"identities": [1], "cameras": [1, 2], "infrared": [True], "paths": ["a"]})


def test_validation_score_is_the_mean_of_rank_1_and_map_over_both_directions():
    images = make_images(sysu_counts(), shuffle=7)
    protocols = validation_protocols(images, draws=4)
    features = np.random.default_rng(1).standard_normal((len(images), 6))
    score, reports = validate(features, images, protocols)
    assert {report["direction"] for report in reports} == set(DIRECTIONS)
    assert [report["trials"] for report in reports] == [4, 4]
    parts = [
        evaluate(features, images, protocol, feature="bnneck")[name]["mean"]
        for protocol in protocols
        for name in ("rank1", "mAP")
    ]
    assert score == pytest.approx(sum(parts) / 4, abs=1e-12)
    again = validation_protocols(images, draws=4)
    for old, new in zip(protocols, again, strict=True):
        assert all(map(np.array_equal, old.galleries, new.galleries))
    assert len({gallery.tobytes() for gallery in protocols[0].galleries}) > 1


def test_a_permutation_file_that_is_damaged_or_too_large_is_named(tmp_path, monkeypatch):
    path = write_permutations(tmp_path / "rand_perm_cam.mat", {(6, 1): 3})
    whole = path.read_bytes()
    for damaged in (b"", b"no MATLAB file", whole[:200], whole[:150] + bytes(200)):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"rand_perm_cam\.mat is not SYSU-MM01's.*evaluation code"):
            read_permutations(path)
    path.write_bytes(whole)
    monkeypatch.setattr("msclnet.retrieval.sampling.MAX_MAT_BYTES", len(whole) - 1)
    with pytest.raises(UserError, match=f"{len(whole)} bytes"):
        read_permutations(path)


def test_own_images_by_the_whole_gallery_and_by_drawn_ones():
    counts = {(1, 1, False): 3, (1, 2, False): 2, (2, 1, False): 1, (1, 1, True): 2, (2, 3, True): 1}
    images = make_images(counts, shuffle=4)
    found = list(folder_protocols(images, directions=DIRECTIONS, exclude=None))
    assert [(p.direction, p.shots, p.sampler, p.cmc_by_identity, len(p.galleries)) for p in found] == [
        ("infrared-to-visible", None, None, False, 1),
        ("visible-to-infrared", None, None, False, 1),
        ("infrared-to-visible", 1, "agw", True, 10),
        ("visible-to-infrared", 1, "agw", True, 10),
    ]
    assert [(len(p.queries), len(p.galleries[0])) for p in found] == [(3, 6), (6, 3), (3, 3), (6, 2)]
    for trial, gallery in enumerate(found[2].galleries):
        generator = random.Random(trial)
        expected = []
        for identity, camera in ((1, 1), (1, 2), (2, 1)):
            cell = [
                path
                for path, *row in zip(
                    images.paths, images.identities, images.cameras, images.infrared, strict=True
                )
                if row == [identity, camera, False]
            ]
            expected.append(generator.choice(sorted(cell)))
        assert images.paths[gallery].tolist() == expected


def test_own_images_have_one_gallery_where_nothing_can_be_drawn():
    images = make_images({(n, 1, infrared): 1 for n in range(4) for infrared in (False, True)})
    found = list(folder_protocols(images, directions=DIRECTIONS, exclude=None))
    assert [protocol.shots for protocol in found] == [None, None]


def test_the_rule_for_one_camera_is_the_users_choice():
    """Identity 1 is seen by camera 1 in both modalities, and by camera 2 in visible light."""
    images = make_images({(1, 1, False): 1, (1, 2, False): 1, (1, 1, True): 1, (2, 1, False): 1})
    features = np.array([[1.0, 0.0], [0.1, 1.0], [1.0, 0.0], [1.0, 1.0]])
    found = {}
    for rule in ("kept", "ignored"):
        exclude = query_exclusion("folder", same_camera=rule)
        protocol = next(folder_protocols(images, directions=["infrared-to-visible"], exclude=exclude))
        found[rule] = evaluate(features, images, protocol, feature="bnneck")["mAP"]["mean"]
    # Nearest is the match by the same camera, then the other person, then the match by camera 2.
    assert found == {"kept": pytest.approx((1 + 2 / 3) / 2), "ignored": pytest.approx(1 / 2)}
    assert query_exclusion("synthetic", same_camera="ignored") is not None
    assert query_exclusion("regdb", same_camera="ignored") is None
