"""Lists of identities and images: forms that editors and systems leave are read, contradictions are named."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from small_copies import LISTS, NAMES, RECORDS, files, records_of

from msclnet.datasets.archive import open_source
from msclnet.datasets.catalogue import data_set
from msclnet.datasets.records import Choice
from msclnet.errors import UserError


@pytest.mark.parametrize(
    "text",
    [
        b"3, 1",
        b"\xef\xbb\xbf3 ,\t1,\r\n",
        b"3\r\n1\r\n",
        b"\n 0003,0001 \n\n",
        b"3,,1",
        b"3,1,3",
        b"1,3,500",
        "3,1".encode("utf-16"),
    ],
)
def test_identities_as_editors_leave_them(tmp_path: Path, text: bytes) -> None:
    """Also one that is there twice, and one without images."""
    assert records_of(tmp_path, "sysu-mm01", files("sysu-mm01", {"train_id": text})) == RECORDS["sysu-mm01"]


CHANGES: list[Callable[[str], str]] = [
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("/", "\\").replace(",", " , "),
    lambda text: "\ufeff" + text,
    lambda text: "\n" + text.replace("\n", "  \n\n"),
    lambda text: text.replace(" ", "\t"),
    lambda text: text.replace("Visible", "./Visible").replace("Thermal", "./Thermal"),
    lambda text: text.replace(".bmp", ".BMP").replace(".jpg", ".JPG"),
    lambda text: text.upper(),
    lambda text: text.rstrip("\n"),
    lambda text: text + text.upper(),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["regdb", "llcm"])
def test_lines_as_systems_and_editors_leave_them(
    tmp_path: Path, name: str, change: Callable[[str], str]
) -> None:
    content = files(name) | {path: change(text.decode()).encode() for path, text in LISTS[name].items()}
    assert records_of(tmp_path, name, content) == RECORDS[name]


@pytest.mark.parametrize(("name", "path"), [(name, path) for name in NAMES for path in LISTS[name]])
def test_a_missing_list_is_named(tmp_path: Path, name: str, path: str) -> None:
    content = files(name)
    del content[path]
    with pytest.raises(UserError, match=f"{path.replace('.', '[.]')} is missing"):
        records_of(tmp_path, name, content)


def test_an_empty_list_of_identities_leaves_its_split_empty(tmp_path: Path) -> None:
    found = records_of(tmp_path, "sysu-mm01", files("sysu-mm01", {"val_id": "\n"}))
    assert found == [record for record in RECORDS["sysu-mm01"] if record.split != "val"]


V, T = "Visible/23/a_23.bmp 0\n", "Thermal/4/a_4.bmp 0\n"
WRONG: list[tuple[str, dict[str, str], str]] = [
    ("sysu-mm01", {"val_id": "2,3"}, r"identity 3 .*exp/train_id\.txt.*exp/val_id\.txt"),
    ("sysu-mm01", {"test_id": "2"}, r"identity 2 .*exp/val_id\.txt.*exp/test_id\.txt"),
    *(
        ("sysu-mm01", {"train_id": text}, rf"exp/train_id\.txt holds '{shown}'")
        for text, shown in (
            ("3,one", "one"),
            ("3,-1", "-1"),
            ("3;1", "3;1"),
            ("3,1.5", r"1\.5"),
            ("3,²", "²"),
        )
    ),
    ("regdb", {"train_visible": "\n \n"}, r"idx/train_visible_3\.txt is empty"),
    ("regdb", {"train_visible": V + "Visible/7/b_7.bmp\n"}, r"train_visible_3\.txt line 2 is 'Visible/7/b_7"),
    ("regdb", {"train_visible": "Visible/7/a_7.bmp zero"}, r"line 1 is .* zero'.* expected a line like"),
    ("regdb", {"train_visible": "Visible/7/a_7.bmp -1"}, r"train_visible_3\.txt line 1"),
    ("regdb", {"train_visible": "Visible/seven/a_7.bmp 0"}, r"line 1 is 'Visible/seven"),
    ("regdb", {"train_visible": "/data/RegDB/Visible/7/a_7.bmp 0"}, r"line 1 is '/data"),
    ("regdb", {"train_visible": "Visible/../7/a_7.bmp 0"}, r"train_visible_3\.txt line 1"),
    # The lists of the two modalities swapped: a direction would be scored under the other's name.
    ("regdb", {"test_visible": T}, r"test_visible_3\.txt line 1 is 'Thermal/4/a_4\.bmp 0'.*Visible/"),
    # One identity with two labels, two identities with one label, in one list.
    (
        "regdb",
        {"train_visible": V + "Visible/23/b_23.bmp 1\n"},
        r"train_visible_3\.txt line 2 gives identity 23 .*label 1.*line 1 gives identity 23 .*label 0",
    ),
    (
        "regdb",
        {"train_visible": V + "Visible/4/a_4.bmp 0\n"},
        r"train_visible_3\.txt line 2 gives identity 4 .*label 0.*line 1 gives identity 23 .*label 0",
    ),
    # Each list alone is right, but the modalities mean different persons by one label.
    (
        "regdb",
        {"train_thermal": T + "Thermal/23/a_23.bmp 1\n"},
        r"train_thermal_3\.txt line 1 gives identity 4 .*label 0.*train_visible_3\.txt line",
    ),
    (
        "regdb",
        {"train_visible": "Visible/4/a_4.bmp 0\nVisible/4/a_4.bmp 1\n"},
        r"line 2 gives Visible/4/a_4\.bmp the label 1",
    ),
    (
        "regdb",
        {"test_thermal": "Thermal/23/a_23.bmp 0\n", "test_visible": V},
        r"identity 23 is listed for training \(idx/train_.*\) and for the test \(idx/test_visible_3\.txt line 1\)",
    ),
    ("regdb", {"test_thermal": "Thermal/4/a_4.bmp 1\n"}, r"identity 4 is listed for training"),
    (
        "llcm",
        {"train_vis": "vis/0351/0351_s1_f1_vis.jpg 1\n"},
        r"idx/train_vis\.txt line 1 is 'vis/0351/0351_s1",
    ),
    ("llcm", {"train_vis": "vis/0351/_c06_.jpg 1\n"}, r"idx/train_vis\.txt line 1"),
    ("llcm", {"train_vis": "nir/0351/0351_c04_s200656_f4831_nir.jpg 1\n"}, r"train_vis\.txt line 1 is 'nir/"),
    ("llcm", {"train_nir": ""}, r"idx/train_nir\.txt is empty"),
    (
        "llcm",
        {"train_nir": "nir/0351/0351_c04_s200656_f4831_nir.jpg 0\n"},
        r"idx/train_nir\.txt line 1 gives identity 351 .*label 0.*idx/train_vis\.txt line",
    ),
    ("llcm", {"test_id": "12,one"}, r"idx/test_id\.txt holds 'one'"),
    (
        "llcm",
        {"test_id": "12,351"},
        r"identity 351 is listed for training .*for the test \(idx/test_id\.txt\)",
    ),
]


@pytest.mark.parametrize(("name", "lists", "message"), WRONG)
def test_lists_that_cannot_be_right(tmp_path: Path, name: str, lists: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        records_of(tmp_path, name, files(name, lists))


def test_each_split_of_regdb_has_its_own_lists(tmp_path: Path) -> None:
    swapped = {"train": "test", "test": "train"}
    tenth = {
        path.replace(side, swapped[side]).replace("_3", "_10"): text
        for path, text in LISTS["regdb"].items()
        if (side := path[4:].partition("_")[0])
    }
    content = files("regdb") | tenth
    found = records_of(tmp_path, "regdb", content, choice=Choice(validation=False, regdb_split=10))
    assert {(r.path, r.split) for r in found} == {(r.path, swapped[r.split]) for r in RECORDS["regdb"]}
    for number, message in (
        (1, r"idx/train_visible_1\.txt is missing"),
        (0, "no split 0; choose one of 1 to 10"),
        (11, "no split 11"),
    ):
        with pytest.raises(UserError, match=message):
            records_of(tmp_path, "regdb", content, choice=Choice(validation=False, regdb_split=number))
    with pytest.raises(UserError, match="fewer than ten"):
        records_of(tmp_path, "regdb", content, choice=Choice(validation=True, regdb_split=3))


def test_a_list_that_is_damaged_in_the_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files("regdb").items():
            archive.writestr(file, content)
    data = bytearray(path.read_bytes())
    data[data.index(b"Visible/7/a_7.bmp 0")] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"idx/test_visible_3\.txt cannot be read \(damaged in the archive"):
        data_set("regdb").list_records(open_source(path), Choice(validation=False, regdb_split=3))
