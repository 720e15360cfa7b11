"""A whole copy is as published; a partial one learns exactly what it lacks."""

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
from full_size import Listing, full_llcm, full_regdb, full_sysu
from replicas import SYSU_CAMERAS, write_llcm, write_regdb, write_sysu_mm01
from scipy.io import loadmat

from benchmarks.sysu_mm01 import SYSU_MM01, Group
from msclnet.datasets.archive import open_source
from msclnet.datasets.catalogue import DATA_SETS, DataSet, Report, data_set, missing_source_message, verify
from msclnet.datasets.records import Choice
from msclnet.datasets.survey import Published
from msclnet.errors import UserError

SPLITS = Path(
    os.environ.get("MSCLNET_SYSU_SPLITS", Path(__file__).resolve().parents[3] / "shared" / "sysu-mm01")
)
needs_splits = pytest.mark.skipif(
    not (SPLITS / "rand_perm_cam.mat").is_file(), reason="SYSU-MM01's split files are not here"
)
FULL = {"sysu-mm01": cache(full_sysu), "regdb": cache(full_regdb), "llcm": cache(full_llcm)}
# Reading tens of thousands of names takes seconds: most tests look at few people and the numbers of these.
EVERY_CAMERA = range(1, 7)
SMALL_GROUPS = {
    "train": (Group(20, {1: 60, 2: 60, 3: 40, 4: 60, 5: 60, 6: 40}),),
    "val": (Group(5, {3: 10, 4: 10, 5: 10}),),
    "test": (Group(6, dict.fromkeys(EVERY_CAMERA, 60)),),
}
SMALL = {
    "sysu-mm01": cache(partial(full_sysu, groups=SMALL_GROUPS)),
    "regdb": cache(partial(full_regdb, 40)),
    "llcm": cache(partial(full_llcm, (30, 20), (300, 200), (270, 180))),
}
# Identities and images, in the order in which the modules list the published ones.
COUNTS: dict[str, list[tuple[int | None, int | None]]] = {
    "sysu-mm01": [(None, 260), (None, 90), *[(6, 60)] * 6, (None, 120)],
    "regdb": [(40, 400)] * 2,
    "llcm": [(30, None), (None, 300), (None, 270), (20, None), (None, 200), (None, 180)],
}
LISTED: dict[str, list[tuple[int | None, int | None]]] = {
    "sysu-mm01": [(20, None), (5, None), (6, None)],
    "regdb": [(20, 200)] * 40,
    "llcm": [(None, 300), (None, 270), (20, None)],
}


def small_data_set(name: str) -> DataSet:
    """A data set as if the numbers of its small copy had been published."""
    dataset = data_set(name)
    assert dataset.published is not None
    lists = dict(zip(dataset.published.lists, LISTED[name], strict=True))
    numbers = zip(dataset.published.images, COUNTS[name], strict=True)
    images = tuple(replace(number, identities=i, images=n) for number, (i, n) in numbers)
    return replace(dataset, published=Published(lists, images))


SMALL_REGDB, small_regdb = small_data_set("regdb"), SMALL["regdb"]
CAMERA = (("visible", 1), ("infrared", 2))


def regdb_counts(identities: int) -> dict[tuple[str, str, int], tuple[int, int]]:
    """By hand: ten images of each identity and modality, half of the identities on each side of a split."""
    half = (identities // 2, 5 * identities)
    counts = {(f"{side} {k}", *m): half for side in ("train", "test") for k in range(1, 11) for m in CAMERA}
    return counts | {("all", *modality): (identities, 10 * identities) for modality in CAMERA}


def sentences(source, name: str) -> list[str]:
    return [difference.sentence() for difference in verify(source, small_data_set(name)).differences]


def counted(report: Report) -> dict[tuple[str, str, int], tuple[int, int]]:
    return {(c.part, c.modality, c.camera): (c.identities, c.images) for c in report.counts}


@pytest.mark.parametrize("name", ["sysu-mm01", "llcm", pytest.param("regdb", marks=pytest.mark.full_size)])
def test_a_whole_copy_is_as_published(name: str) -> None:
    report = verify(FULL[name](), data_set(name))
    assert [difference.sentence() for difference in report.differences] == []
    assert report.compared
    assert report.summary() == "as published"
    counts = counted(report)
    if name == "sysu-mm01":
        assert {
            camera: counts["test", SYSU_CAMERAS[camera], camera] for camera in SYSU_CAMERAS
        } == SYSU_MM01.test_cameras
        assert sum(images for (part, *_), (_, images) in counts.items() if part != "test") == 22_258 + 11_909
    elif name == "regdb":
        assert counts == regdb_counts(412)
    else:
        totals = Counter()
        for (part, modality, camera), (_, images) in counts.items():
            assert (modality, camera) != ("infrared", 3)
            totals[part, modality] += images
        assert totals == {
            ("train", "visible"): 16_946,
            ("train", "infrared"): 13_975,
            ("test", "visible"): 8_680,
            ("test", "infrared"): 7_166,
        }


@needs_splits
def test_the_official_test_images_are_as_published() -> None:
    table = loadmat(SPLITS / "rand_perm_cam.mat")["rand_perm_cam"]
    identities = loadmat(SPLITS / "test_id.mat")["id"].ravel().tolist()
    cells = {(i, camera): table[camera - 1, 0][i - 1, 0] for i in identities for camera in SYSU_CAMERAS}
    test = {cell: numbers.shape[1] for cell, numbers in cells.items() if numbers.size}
    assert verify(full_sysu(test), data_set("sysu-mm01")).differences == ()


def test_sysu_without_two_cameras_and_a_list() -> None:
    partial = SMALL["sysu-mm01"]().without("cam3/", "cam5/", "exp/val_id.txt")
    train = {f"{int(i):04d}" for i in partial.files["exp/train_id.txt"].split(",")}
    cameras = Counter(name.split("/")[0] for name in partial.files if name.split("/")[1] in train)
    # What the two folders hold of the test is not reported again.
    assert sentences(partial, "sysu-mm01") == [
        "folders with images: 4, expected 6; missing: cam3, cam5",
        "lists: 2, expected 3; missing: exp/val_id.txt",
        f"train and val, visible: {cameras['cam1'] + cameras['cam2'] + cameras['cam4']:,} images, "
        "expected 260 images",
        f"train and val, infrared: {cameras['cam6']:,} images, expected 90 images",
        "test, infrared, the queries: 60 images, expected 120 images",
    ]


def test_sysu_names_each_identity_without_a_folder() -> None:
    whole = SMALL["sysu-mm01"]()
    train = [int(i) for i in whole.files["exp/train_id.txt"].split(",")][:12]
    partial = whole.without(*(f"cam{camera}/{identity:04d}/" for camera in range(1, 7) for identity in train))
    report = verify(partial, small_data_set("sysu-mm01"))
    names = [f"{identity:04d}" for identity in train]
    assert report.differences[0].missing == tuple(names)
    assert report.differences[0].sentence() == (
        "identities of exp/train_id.txt: 8 with a folder in any of cam1 to cam6, expected 20; missing: "
        f"{', '.join(names[:10])} and 2 more"
    )
    assert [difference.where for difference in report.differences[1:]] == [
        "train and val, visible",
        "train and val, infrared",
    ]
    assert report.as_dict()["differences"][0]["missing"] == names


def test_sysu_counts_that_differ() -> None:
    whole = SMALL["sysu-mm01"]()
    tested = whole.files["exp/test_id.txt"].split(",")
    person = next(f"{int(i):04d}" for i in tested if f"cam4/{int(i):04d}/0001.jpg" in whole.files)
    one_less = whole.without(f"cam4/{person}/0001.jpg")
    assert sentences(one_less, "sysu-mm01") == ["test, visible, camera 4: 59 images, expected 60 images"]
    one_more = whole.with_list(f"cam6/{person}/9999.jpg", "")
    assert sentences(one_more, "sysu-mm01") == [
        "test, infrared, camera 6: 61 images, expected 60 images",
        "test, infrared, the queries: 121 images, expected 120 images",
    ]


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("", "list exp/val_id.txt: 0 identities, expected 5 identities"),
        ("1,two", "list exp/val_id.txt: exp/val_id.txt holds 'two', which is no identity"),
        (
            "{tested},1000",
            "lists in exp: identity {tested} is listed both in exp/val_id.txt and in exp/test_id.txt",
        ),
    ],
)
def test_sysu_lists_that_cannot_be_right(text: str, beginning: str) -> None:
    whole = SMALL["sysu-mm01"]()
    tested = whole.files["exp/test_id.txt"].partition(",")[0]
    found = sentences(whole.with_list("exp/val_id.txt", text.format(tested=tested)), "sysu-mm01")
    assert any(one.startswith(beginning.format(tested=tested)) for one in found)


def test_a_small_regdb_is_as_its_numbers_say() -> None:
    report = verify(small_regdb(), SMALL_REGDB)
    assert report.summary() == "as published"
    assert counted(report) == regdb_counts(40)


def test_regdb_without_a_modality_and_a_list() -> None:
    partial = small_regdb().without("Thermal/", "idx/test_visible_7.txt")
    assert sentences(partial, "regdb") == [
        "folders with images: 1, expected 2; missing: Thermal",
        "lists: 39, expected 40; missing: idx/test_visible_7.txt",
    ]


def test_regdb_converted_to_another_format_is_named_as_such() -> None:
    whole = small_regdb()
    names = [name for name in whole.files if not name.endswith(".txt")]
    lists = {name: text for name, text in whole.files.items() if name.endswith(".txt")}
    png = Listing([name.replace(".bmp", ".png") if "Thermal" in name else name for name in names], lists)
    (difference,) = verify(png, SMALL_REGDB).differences
    for part in (
        "images in Thermal",
        "listed and not there 400 of 400",
        "400 are there under another ending (.png)",
    ):
        assert part in difference.sentence()
    assert len(difference.missing) == 400
    one = whole.without("Visible/3/v_00004_3.bmp").with_list("Visible/3/v_00004_3.PNG", "")
    (sentence,) = sentences(one, "regdb")
    assert "listed and not there 1 of 400, of which 1 are there under another ending (.PNG)" in sentence


def test_regdb_names_folders_and_single_images() -> None:
    gone = ("Visible/10/", "Visible/29/", "Visible/9/", "Thermal/30/t_00003_30.bmp")
    assert sentences(small_regdb().without(*gone), "regdb") == [
        "identity folders in Visible: 37 of those listed, expected 40; missing: Visible/9, Visible/10, Visible/29",
        "images in Thermal: 399 of those listed, expected 400; missing: Thermal/30/t_00003_30.bmp",
        "all, visible: 37 identities and 370 images, expected 40 identities and 400 images",
        "all, infrared: 399 images, expected 400 images",
    ]


def test_regdb_finds_mistakes_in_the_lists_of_any_split() -> None:
    whole = small_regdb()
    shorter = whole.with_list(
        "idx/train_visible_9.txt", "\n".join(whole.files["idx/train_visible_9.txt"].splitlines()[10:])
    )
    assert sentences(shorter, "regdb") == [
        "list idx/train_visible_9.txt: 19 identities and 190 images, expected 20 identities and 200 images"
    ]
    swapped = whole.with_list("idx/test_thermal_2.txt", whole.files["idx/test_visible_2.txt"])
    assert sentences(swapped, "regdb")[0].startswith(
        "list idx/test_thermal_2.txt: idx/test_thermal_2.txt line 1 is 'Visible/1/v_00000_1.bmp 0'"
    )
    leaking = whole.with_list("idx/test_thermal_2.txt", whole.files["idx/train_thermal_2.txt"])
    assert any(
        one.startswith("lists of split 2: idx/test_thermal_2.txt line 1 gives identity 2 ")
        for one in sentences(leaking, "regdb")
    )


def test_lists_and_images_in_two_folders_are_a_difference_of_their_own() -> None:
    whole = small_regdb()
    apart = Listing(
        (), {(name if "idx" in name else f"RegDB_01/{name}"): text for name, text in whole.files.items()}
    )
    assert sentences(apart, "regdb")[0] == (
        "folder of the data set: lists were found in the top folder, images in RegDB_01/: put them side by side"
    )


def test_llcm_without_folders_and_a_list() -> None:
    partial = SMALL["llcm"]().without("vis/", "test_nir/cam4/", "idx/train_nir.txt")
    partial = partial.with_list("vis/0001/Thumbs.db", "").with_list("test_nir/cam4/0031/._a.jpg", "")
    lost = sum(name.startswith("test_nir/cam4/") for name in SMALL["llcm"]().files)
    assert sentences(partial, "llcm") == [
        "folders with images: 17, expected 19; missing: vis, test_nir/cam4",
        "lists: 2, expected 3; missing: idx/train_nir.txt",
        "train: 0 identities, expected 30 identities",
        "train, infrared: 0 images, expected 270 images",
        f"test, infrared: {180 - lost:,} images, expected 180 images",
    ]


def test_llcm_names_what_lacks() -> None:
    whole = SMALL["llcm"]()
    file = next(name for name in whole.names() if name.startswith("test_vis/cam2/0040/"))
    identity = tuple(f"test_{m}/cam{camera}/0041/" for m in ("vis", "nir") for camera in range(1, 10))
    found = verify(whole.without(file, *identity, "nir/0007/"), small_data_set("llcm")).differences
    visible = sorted([file, *(n for n in whole.names() if n.startswith("test_vis/") and "/0041/" in n)])
    assert [one.where for one in found] == [
        "identity folders in nir",
        "identities of idx/test_id.txt",
        "images of idx/test_vis.txt",
        "images of idx/test_nir.txt",
        "train, infrared",
        "test",
        "test, visible",
        "test, infrared",
    ]
    assert found[0].missing == ("nir/0007",)
    assert found[1].missing == ("0041",)
    assert list(found[2].missing) == sorted(name.rpartition("/")[2] for name in visible)
    assert found[6].found == f"{200 - len(visible):,} images"


SIDES = ("train", "test")
PARTS = {
    "sysu-mm01": (
        [f"cam{k}" for k in range(1, 7)],
        [f"exp/{split}_id.txt" for split in ("train", "val", "test")],
    ),
    "regdb": (
        ["Visible", "Thermal"],
        [f"idx/{s}_{m}_{k}.txt" for k in range(1, 11) for s in SIDES for m in ("visible", "thermal")],
    ),
    "llcm": (
        ["vis", "nir", *(f"test_vis/cam{k}" for k in range(1, 10))]
        + [f"test_nir/cam{k}" for k in (1, 2, 4, 5, 6, 7, 8, 9)],
        ["idx/train_vis.txt", "idx/train_nir.txt", "idx/test_id.txt"],
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_nothing_of_the_data_set_is_there(name: str) -> None:
    found = verify(Listing(["holiday/0001.jpg"], {}), data_set(name)).differences
    assert [one.where for one in found[:2]] == ["folders with images", "lists"]
    assert [list(one.missing) for one in found[:2]] == list(PARTS[name])


def test_long_summaries_are_cut_and_the_report_is_whole() -> None:
    whole = small_regdb()
    shorter = {name: text.rpartition("\n")[0] for name, text in whole.files.items() if text}
    source = Listing((), {**whole.files, **shorter}).without("Visible/", "idx/test_thermal_1")
    report = verify(source, SMALL_REGDB)
    lines = report.summary().splitlines()
    assert lines[0] == "40 differences from what was published"
    assert lines[2] == "  lists: 38, expected 40; missing: idx/test_thermal_1.txt, idx/test_thermal_10.txt"
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "  and 20 more differences"
    written = json.loads(json.dumps(report.as_dict()))
    assert len(written["differences"]) == 40
    assert written["differences"][0] == {
        "where": "folders with images",
        "found": "1",
        "expected": "2",
        "missing": ["Visible"],
    }


WRITERS = {
    "sysu-mm01": write_sysu_mm01,
    "synthetic": write_sysu_mm01,
    "regdb": write_regdb,
    "llcm": write_llcm,
}


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_replicas_are_counted_as_written(tmp_path: Path, name: str) -> None:
    written = WRITERS[name](tmp_path / "cam1", size=(4, 8))
    report = verify(open_source(tmp_path), data_set(name))
    parts = (
        {"": written} if isinstance(written, list) else {f" {split}": rows for split, rows in written.items()}
    )
    expected: dict[tuple[str, str, int], list[int]] = {}
    for number, rows in parts.items():
        for row in rows:
            expected.setdefault((f"{row.split}{number}", row.modality, row.camera), []).append(row.identity)
    found = {key: value for key, value in counted(report).items() if key[0] != "all"}
    assert found == {key: (len(set(people)), len(people)) for key, people in expected.items()}
    assert bool(report.differences) is (name != "synthetic")
    named = {name for difference in report.differences for name in difference.missing}
    # LLCM's replica has four of the nine cameras; nothing else that its lists name is missing.
    assert {name.split("/")[0] for name in named} <= ({"test_vis", "test_nir"} if name == "llcm" else set())


def test_synthetic_has_nothing_to_compare_with(tmp_path: Path) -> None:
    write_sysu_mm01(tmp_path, size=(4, 8))
    shutil.rmtree(tmp_path / "cam5")
    report = verify(open_source(tmp_path), data_set("synthetic"))
    assert (report.differences, report.compared) == ((), False)
    assert report.summary() == "nothing is published to compare with"


def test_data_sets_by_name(tmp_path: Path) -> None:
    assert [data_set(name).name for name in DATA_SETS] == list(DATA_SETS)
    with pytest.raises(UserError, match=rf"no data set 'market1501'; choose one of {', '.join(DATA_SETS)}"):
        data_set("market1501")
    for name, write in WRITERS.items():
        write(tmp_path / name, size=(4, 8))
        source = open_source(tmp_path / name)
        records = data_set(name).list_records(source, Choice(validation=True))
        assert {record.split for record in records} == {"train", "val", "test"}
        assert all(data_set(name).layout.includes(record.path) for record in records)
        assert [
            n for n in source.names() if n.endswith(".txt") and not data_set(name).layout.includes(n)
        ] == [n for n in source.names() if n == "readme.txt"]


ACCESS = {
    "sysu-mm01": ("Sun Yat-sen University", "sign", "wuancong/SYSU-MM01", "cam1 to cam6", "train_id.txt"),
    "regdb": ("Dongguk", "sign", "Visible", "Thermal", "idx"),
    "llcm": ("sign", "ZYK100/LLCM", "test_vis", "test_nir", "test_id.txt"),
}


@pytest.mark.parametrize("name", ACCESS)
def test_a_missing_source_says_where_to_apply_and_what_to_do(tmp_path: Path, name: str) -> None:
    dataset, place = data_set(name), tmp_path / "data/source" / name
    assert [word for word in ACCESS[name] if word not in dataset.access] == []
    message = missing_source_message(name, place)
    for part in (f"{place} is missing", dataset.access, f"ln -sfn /path/to/{dataset.title} {place}"):
        assert part in message
    place.parent.mkdir(parents=True)
    place.symlink_to("/nowhere")
    assert f"{place} is a link to /nowhere, where there is nothing" in missing_source_message(name, place)
    place.unlink()
    place.symlink_to(tmp_path)
    assert missing_source_message(name, place) == missing_source_message("synthetic", tmp_path / "none") == ""
