"""RegDB's layout on disk: which images count in which split, for whom, and which lists are refused."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from replicas import write_regdb

from msclnet.datasets.archive import open_source
from msclnet.datasets.records import Choice, Record
from msclnet.datasets.regdb import LAYOUT, list_records
from msclnet.errors import UserError

SPLIT_3 = Choice(validation=False, regdb_split=3)
LISTS = {
    "train_visible": "Visible/23/a_23.bmp 0\nVisible/23/b_23.bmp 0\nVisible/4/a_4.bmp 1\n",
    "train_thermal": "Thermal/4/a_4.bmp 1\nThermal/23/a_23.bmp 0\n",
    "test_visible": "Visible/7/a_7.bmp 0\n",
    "test_thermal": "Thermal/7/a_7.bmp 0\nThermal/7/b_7.bmp 0\n",
}
# By hand: splits in order, then the folder's number, camera 1 before camera 2, path.
EXPECTED = [
    Record("Visible/4/a_4.bmp", 4, 1, "visible", "train"),
    Record("Thermal/4/a_4.bmp", 4, 2, "infrared", "train"),
    Record("Visible/23/a_23.bmp", 23, 1, "visible", "train"),
    Record("Visible/23/b_23.bmp", 23, 1, "visible", "train"),
    Record("Thermal/23/a_23.bmp", 23, 2, "infrared", "train"),
    Record("Visible/7/a_7.bmp", 7, 1, "visible", "test"),
    Record("Thermal/7/a_7.bmp", 7, 2, "infrared", "test"),
    Record("Thermal/7/b_7.bmp", 7, 2, "infrared", "test"),
]


def write(root: Path, lists: dict[str, str] = LISTS, *, split: int = 3) -> Path:
    """The lists under a split's number, and the images that they should name."""
    for record in EXPECTED:
        (root / record.path).parent.mkdir(parents=True, exist_ok=True)
        (root / record.path).write_bytes(b"pixels are not looked at here")
    (root / "idx").mkdir(exist_ok=True)
    for name, text in lists.items():
        (root / f"idx/{name}_{split}.txt").write_bytes(text.encode())
    return root


def test_records_and_their_order(tmp_path: Path) -> None:
    assert list_records(open_source(write(tmp_path)), SPLIT_3) == EXPECTED


@pytest.mark.parametrize("top", ["RegDB", "Visible/23", "a/idx", "webcam 1"])
def test_a_top_folder_of_any_name_in_an_archive(tmp_path: Path, top: str) -> None:
    write(tmp_path / "images")
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((tmp_path / "images").rglob("*"), reverse=True):
            archive.write(file, f"{top}/{file.relative_to(tmp_path / 'images').as_posix()}")
    expected = [replace(record, path=f"{top}/{record.path}") for record in EXPECTED]
    assert list_records(open_source(path), SPLIT_3) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("/", "\\"),
        lambda text: "\ufeff" + text,
        lambda text: "\n" + text.replace("\n", "  \n\n"),
        lambda text: text.replace(" ", "\t"),
        lambda text: text.replace("Visible", "./Visible").replace("Thermal", "./Thermal"),
        lambda text: text.replace(".bmp", ".BMP"),
        lambda text: text.upper(),
        lambda text: text.rstrip("\n"),
        lambda text: text + text,
        lambda text: text + text.upper(),
    ],
)
def test_lists_as_systems_and_editors_leave_them(tmp_path: Path, change) -> None:
    lists = {name: change(text) for name, text in LISTS.items()}
    assert list_records(open_source(write(tmp_path, lists)), SPLIT_3) == EXPECTED


def test_each_split_has_its_own_lists(tmp_path: Path) -> None:
    write(tmp_path)
    swapped = {
        name.replace("train", "x").replace("test", "train").replace("x", "test"): text
        for name, text in LISTS.items()
    }
    write(tmp_path, swapped, split=10)
    tenth = list_records(open_source(tmp_path), Choice(validation=False, regdb_split=10))
    assert {(r.path, r.split) for r in tenth} == {
        (r.path, "test" if r.split == "train" else "train") for r in EXPECTED
    }
    with pytest.raises(UserError, match=r"idx/train_visible_1\.txt is missing"):
        list_records(open_source(tmp_path), Choice(validation=False, regdb_split=1))


@pytest.mark.parametrize("number", [0, 11, -1])
def test_there_are_ten_splits(tmp_path: Path, number: int) -> None:
    with pytest.raises(UserError, match=rf"no split {number}; choose one of 1 to 10"):
        list_records(open_source(write(tmp_path)), Choice(validation=False, regdb_split=number))


def test_listed_images_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "Thermal/7/b_7.bmp").unlink()
    assert list_records(open_source(tmp_path), SPLIT_3) == EXPECTED[:-1]


def test_images_that_no_list_names_are_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("Visible/23/c_23.bmp", "Visible/99/a_99.bmp", "Thermal/7/._a_7.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list_records(open_source(tmp_path), SPLIT_3) == EXPECTED


def test_no_image_at_all(tmp_path: Path) -> None:
    write(tmp_path)
    for record in EXPECTED:
        (tmp_path / record.path).unlink()
    with pytest.raises(UserError, match="none of the listed images"):
        list_records(open_source(tmp_path), SPLIT_3)


@pytest.mark.parametrize("missing", sorted(LISTS))
def test_missing_list(tmp_path: Path, missing: str) -> None:
    write(tmp_path, {name: text for name, text in LISTS.items() if name != missing})
    with pytest.raises(UserError, match=rf"idx/{missing}_3\.txt is missing"):
        list_records(open_source(tmp_path), SPLIT_3)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train_visible": "\n \n"}, r"idx/train_visible_3\.txt is empty"),
        (
            {"test_visible": "Visible/7/a_7.bmp 0\nVisible/7/b_7.bmp\n"},
            r"test_visible_3\.txt line 2 is 'Visible/7/b_7",
        ),
        (
            {"test_visible": "Visible/7/a_7.bmp zero"},
            r"test_visible_3\.txt line 1 is .* zero'.* expected a line like",
        ),
        ({"test_visible": "Visible/7/a_7.bmp -1"}, r"test_visible_3\.txt line 1"),
        ({"test_visible": "Visible/seven/a_7.bmp 0"}, r"test_visible_3\.txt line 1 is 'Visible/seven"),
        ({"test_visible": "/data/RegDB/Visible/7/a_7.bmp 0"}, r"test_visible_3\.txt line 1 is '/data"),
        ({"test_visible": "Visible/../7/a_7.bmp 0"}, r"test_visible_3\.txt line 1"),
        # The lists of the two modalities swapped: a direction would be scored under the other's name.
        (
            {"test_visible": "Thermal/7/a_7.bmp 0"},
            r"test_visible_3\.txt line 1 is 'Thermal/7/a_7\.bmp 0'.*Visible/",
        ),
        # One identity with two labels, two identities with one label, in one list.
        (
            {"train_visible": "Visible/23/a_23.bmp 0\nVisible/23/b_23.bmp 1\n"},
            r"train_visible_3\.txt line 2 gives identity 23 .*label 1.*line 1 gives identity 23 .*label 0",
        ),
        (
            {"train_visible": "Visible/23/a_23.bmp 0\nVisible/4/a_4.bmp 0\n"},
            r"train_visible_3\.txt line 2 gives identity 4 .*label 0.*line 1 gives identity 23 .*label 0",
        ),
        # Each list alone is right, but the modalities mean different persons by one label.
        (
            {"train_thermal": "Thermal/4/a_4.bmp 0\nThermal/23/a_23.bmp 1\n"},
            r"train_thermal_3\.txt line 1 gives identity 4 .*label 0.*train_visible_3\.txt line",
        ),
        (
            {"train_visible": "Visible/4/a_4.bmp 0\nVisible/4/a_4.bmp 1\n"},
            r"line 2 gives Visible/4/a_4\.bmp the label 1",
        ),
        (
            {"test_thermal": "Thermal/23/a_23.bmp 0\n", "test_visible": "Visible/23/a_23.bmp 0"},
            r"identity 23 is listed for training \(idx/train_.*\) and for the test \(idx/test_visible_3\.txt line 1\)",
        ),
        ({"test_thermal": "Thermal/4/a_4.bmp 1\n"}, r"identity 4 is listed for training"),
    ],
)
def test_wrong_lists(tmp_path: Path, lists: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list_records(open_source(write(tmp_path, {**LISTS, **lists})), SPLIT_3)


@pytest.mark.parametrize("awkward", [False, True])
@pytest.mark.parametrize("split", [1, 2, 10])
def test_replica(tmp_path: Path, awkward: bool, split: int) -> None:
    root = tmp_path / "cam1" / "Visible"
    written = write_regdb(root, identities=8, awkward=awkward)
    found = list_records(open_source(root), Choice(validation=False, regdb_split=split))
    assert len(found) == len(written[split])
    assert set(found) == set(written[split])
    if awkward:
        assert {record.path[-4:] for record in found} == {".bmp", ".BMP"}


def test_every_tenth_training_identity_validates(tmp_path: Path) -> None:
    written = write_regdb(tmp_path, identities=50, splits=(4,), size=(4, 8))[4]
    found = list_records(open_source(tmp_path), Choice(validation=True, regdb_split=4))
    trained = sorted({record.identity for record in written if record.split == "train"})
    assert len(trained) == 25
    # By hand: the 10th and the 20th, all their images, and nothing else changes.
    validating = (trained[9], trained[19])
    expected = {replace(r, split="val") if r.identity in validating else r for r in written}
    assert set(found) == expected
    assert [record.split for record in found] == sorted(
        (record.split for record in found), key=["train", "val", "test"].index
    )


def test_validation_needs_ten_training_identities(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fewer than ten"):
        list_records(open_source(write(tmp_path)), Choice(validation=True, regdb_split=3))


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("RegDB/Visible/23/male_front_v_01234_23.bmp", True),
        ("Thermal/412/a.BMP", True),
        ("RegDB/idx/test_thermal_10.txt", True),
        ("idx/test_thermal_11.txt", False),
        ("idx/test_thermal_0.txt", False),
        ("RegDB/Infrared/23/a.bmp", False),
        ("Visible/23/._a.bmp", False),
        ("Visible/a.bmp", False),
        ("cam1/0001/0001.jpg", False),
    ],
)
def test_which_files_belong_to_the_data_set(name: str, belongs: bool) -> None:
    assert LAYOUT.includes(name) is belongs


def test_a_line_beyond_all_measure_is_refused_without_being_searched(tmp_path: Path) -> None:
    """The time that the pattern takes grows with the square of a line's blanks: these would take hours."""
    lists = LISTS | {"train_visible": "Visible/23/a_23.bmp" + " " * 2_000_000 + "x\n"}
    with pytest.raises(
        UserError, match=r"idx/train_visible_3\.txt line 1 has 2000020 characters; expected a line"
    ):
        list_records(open_source(write(tmp_path, lists)), SPLIT_3)


def test_a_list_that_is_damaged_in_the_archive_is_named(tmp_path: Path) -> None:
    write(tmp_path / "images")
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((tmp_path / "images").rglob("*.*")):
            archive.write(file, file.relative_to(tmp_path / "images").as_posix())
    data = bytearray(path.read_bytes())
    data[data.index(b"Visible/7/a_7.bmp 0")] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        UserError, match=r"idx/test_visible_3\.txt cannot be read \(damaged in the archive: Bad CRC"
    ):
        list_records(open_source(path), SPLIT_3)
