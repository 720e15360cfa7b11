"""Which files of a copy count, for whom, in which order, wherever the data set lies in it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from replicas import write_llcm, write_regdb, write_sysu_mm01
from small_copies import NAMES, RECORDS, files, records_of

from msclnet.datasets.archive import open_source
from msclnet.datasets.catalogue import data_set
from msclnet.datasets.records import Choice, Record
from msclnet.errors import UserError

TOPS = (
    "",
    "SYSU-MM01/",
    "a/b/",
    "my cam3/0001/",
    "exp/",
    "idx/",
    "Visible/23/",
    "vis/0002/",
    "test_vis/cam5/0001/",
)


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("top", TOPS)
@pytest.mark.parametrize("name", NAMES)
def test_records_and_their_order_below_a_top_folder_of_any_name(
    tmp_path: Path, name: str, top: str, archive: bool
) -> None:
    content = {top + path: data for path, data in files(name).items()}
    expected = [replace(record, path=top + record.path) for record in RECORDS[name]]
    assert records_of(tmp_path, name, content, archive=archive) == expected


@pytest.mark.parametrize("where", ["cam6", "cam1/0001", "cam2/my_c08_cam4", "Visible"])
@pytest.mark.parametrize("name", NAMES)
def test_a_root_whose_own_path_looks_like_a_camera(tmp_path: Path, name: str, where: str) -> None:
    (tmp_path / where).mkdir(parents=True)
    assert records_of(tmp_path / where, name, files(name)) == RECORDS[name]


STRANGERS = {
    "sysu-mm01": (
        "cam1/0099/0001.jpg",  # in no list
        "cam7/0001/0001.jpg",
        "cam0/0001/0001.jpg",
        "cam1/0001/Thumbs.db",
        "cam1/0001/0001.jpg.txt",
        "cam1/0001/more/0001.jpg",
        "cam1/0001.jpg",
        "cam1/one/0001.jpg",
        "__MACOSX/cam1/0001/._0001.jpg",
        "cam1/0001/._0001.jpg",
        "exp/available_id.txt",  # not read
    ),
    "regdb": ("Visible/23/c_23.bmp", "Visible/99/a_99.bmp", "Thermal/7/._a_7.bmp"),
    "llcm": (
        "vis/0012/0012_c01_s1_f2_vis.jpg",  # copies of test images next to the training images
        "nir/1000/1000_c09_s1_f1_nir.jpg",
        "vis/0351/0351_c01_s9_f9_vis.jpg",  # in no training list
        "test_vis/cam1/0351/0351_c01_s9_f9_vis.jpg",  # no test identity
        "test_nir/cam3/0012/0012_c03_s9_f9_nir.jpg",  # a camera without near-infrared
        "test_vis/cam1/0012/._0012_c01_s1_f2_vis.jpg",
        "test_vis/cam0/0012/0012_c00_s1_f2_vis.jpg",
        "test_vis/cam1/0012/Thumbs.db",
        "idx/test_vis.txt",  # not read
        "idx/test_nir.txt",
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_count(tmp_path: Path, name: str) -> None:
    assert records_of(tmp_path, name, files(name, more=STRANGERS[name])) == RECORDS[name]


@pytest.mark.parametrize("name", NAMES)
def test_names_in_capitals_and_other_endings(tmp_path: Path, name: str) -> None:
    upper = {path.upper(): data for path, data in files(name).items()}
    expected = [replace(record, path=record.path.upper()) for record in RECORDS[name]]
    assert records_of(tmp_path, name, upper) == expected
    images = ("cam1/0001/a.JPG", "cam1/0001/b.Jpeg", "cam1/0001/c.PNG", "cam1/0001/d.bmp")
    found = records_of(tmp_path / "other", "sysu-mm01", files("sysu-mm01", more=images))
    assert [record.path for record in found if record.path[10] in "abcd"] == list(images)


@pytest.mark.parametrize("name", NAMES)
def test_listed_images_that_are_not_there_are_left_out(tmp_path: Path, name: str) -> None:
    content = files(name)
    del content[RECORDS[name][1].path]
    assert records_of(tmp_path, name, content) == [RECORDS[name][0], *RECORDS[name][2:]]
    for record in RECORDS[name]:
        content.pop(record.path, None)
    with pytest.raises(UserError, match=r"no image|none of the listed images"):
        records_of(tmp_path / "none", name, content)


def test_the_outermost_folder_with_lists_and_images_is_the_root(tmp_path: Path) -> None:
    """Neither a copy further down nor a list of something else further up takes its place."""
    name, content = "sysu-mm01", files("sysu-mm01")
    nested = {f"backup/{path}": data for path, data in content.items()}
    assert records_of(tmp_path / "a", name, content | nested) == RECORDS[name]
    below = {f"data/SYSU-MM01/{path}": data for path, data in content.items()}
    below |= {f"data/backup/SYSU-MM01/{path}": data for path, data in content.items()}
    found = records_of(tmp_path / "b", name, below | {"exp/train_id.txt": b"77"})
    assert found == [replace(record, path=f"data/SYSU-MM01/{record.path}") for record in RECORDS[name]]


@pytest.mark.parametrize("second", ["SYSU-MM01 - Copy", "SYSU-MM01.bak"])
def test_two_copies_next_to_each_other_are_an_error_that_names_them(tmp_path: Path, second: str) -> None:
    content = {
        f"{top}/{path}": data for top in ("SYSU-MM01", second) for path, data in files("sysu-mm01").items()
    }
    with pytest.raises(UserError) as caught:
        records_of(tmp_path, "sysu-mm01", content)
    for part in ("SYSU-MM01/", f"{second}/", "link one of them"):
        assert part in str(caught.value)


def test_images_one_folder_lower_than_the_lists_are_named(tmp_path: Path) -> None:
    content = {
        path if path.endswith(".txt") else f"images/{path}": data for path, data in files("sysu-mm01").items()
    }
    with pytest.raises(UserError, match=r"the top folder, images in images/: put them side by"):
        records_of(tmp_path, "sysu-mm01", content)


@pytest.mark.parametrize("awkward", [False, True])
@pytest.mark.parametrize(
    ("name", "split", "extensions"),
    [
        ("sysu-mm01", 1, {".jpg", ".JPG"}),
        *(("regdb", split, {".bmp", ".BMP"}) for split in (1, 2, 10)),
        ("llcm", 1, {".jpg", ".JPG"}),
    ],
)
def test_replicas(tmp_path: Path, name: str, split: int, extensions: set[str], awkward: bool) -> None:
    root = tmp_path / "cam3" / "exp"
    small: dict[str, Any] = {"size": (4, 8), "awkward": awkward}
    written = {
        "sysu-mm01": lambda: write_sysu_mm01(root, train=5, val=3, test=4, **small),
        "regdb": lambda: write_regdb(root, identities=8, **small)[split],
        "llcm": lambda: write_llcm(root, train=4, test=4, **small),
    }[name]()
    choice = Choice(validation=name == "sysu-mm01", regdb_split=split)
    found = data_set(name).list_records(open_source(root), choice)
    assert (len(found), set(found)) == (len(written), set(written))
    if awkward:
        assert {record.path[-4:] for record in found} == extensions
    if name == "llcm":
        assert {record.modality for record in found if record.camera == 3} == {"visible"}


def test_without_validation_its_identities_train_too(tmp_path: Path) -> None:
    records = RECORDS["sysu-mm01"]
    train = [replace(record, split="train") for record in records if record.split != "test"]
    # By hand: identities 1, 2 and 3 in the order of their numbers.
    expected = [*train[:3], train[4], train[3], *(record for record in records if record.split == "test")]
    choice = Choice(validation=False)
    assert records_of(tmp_path, "sysu-mm01", files("sysu-mm01"), choice=choice) == expected


@pytest.mark.parametrize("name", ["regdb", "llcm"])
def test_every_tenth_training_identity_validates(tmp_path: Path, name: str) -> None:
    written: list[Record] = (
        write_regdb(tmp_path, identities=50, splits=(4,), size=(4, 8))[4]
        if name == "regdb"
        else write_llcm(tmp_path, train=25, test=2, images=1, cameras=(2, 3, 5), size=(4, 8))
    )
    found = data_set(name).list_records(open_source(tmp_path), Choice(validation=True, regdb_split=4))
    trained = sorted({record.identity for record in written if record.split == "train"})
    assert len(trained) == 25
    # By hand: the 10th and the 20th, all their images, and nothing else changes.
    validating = (trained[9], trained[19])
    assert set(found) == {replace(r, split="val") if r.identity in validating else r for r in written}
    order = [record.split for record in found]
    assert order == sorted(order, key=["train", "val", "test"].index)


BELONGS = [
    ("sysu-mm01", "cam1/0001/0001.jpg", True),
    ("sysu-mm01", "SYSU-MM01/cam6/0333/0020.JPG", True),
    ("sysu-mm01", "my cam3/exp/cam2/0001/0001.jpg", True),
    ("sysu-mm01", "SYSU-MM01/exp/available_id.txt", True),
    ("sysu-mm01", "cam7/0001/0001.jpg", False),
    ("sysu-mm01", "webcam1/0001/0001.jpg", False),
    ("sysu-mm01", "__MACOSX/cam1/0001/._0001.jpg", False),
    ("sysu-mm01", "exp/train_id.mat", False),
    ("sysu-mm01", "cam1_video_train/0001/0001.jpg", False),
    ("sysu-mm01", "idx/train_vis.txt", False),
    ("regdb", "RegDB/Visible/23/male_front_v_01234_23.bmp", True),
    ("regdb", "Thermal/412/a.BMP", True),
    ("regdb", "RegDB/idx/test_thermal_10.txt", True),
    ("regdb", "idx/test_thermal_11.txt", False),
    ("regdb", "idx/test_thermal_0.txt", False),
    ("regdb", "RegDB/Infrared/23/a.bmp", False),
    ("regdb", "Visible/23/._a.bmp", False),
    ("regdb", "Visible/a.bmp", False),
    ("llcm", "LLCM/nir/0351/0351_c06_s200656_f4830_nir.jpg", True),
    ("llcm", "a/test_nir/cam1/0003/a.JPG", True),
    ("llcm", "LLCM/idx/test_nir.txt", True),
    ("llcm", "idx/readme.txt", False),
    ("llcm", "test_vis/0003/a.jpg", False),
    ("llcm", "my_vis/0003/a.jpg", False),
    ("llcm", "idx/train_visible_1.txt", False),
]


@pytest.mark.parametrize(("name", "path", "belongs"), BELONGS)
def test_which_files_belong_to_the_data_set(name: str, path: str, belongs: bool) -> None:
    assert data_set(name).layout.includes(path) is belongs
