"""LLCM's layout on disk: which images count, for whom, by which camera."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from replicas import write_llcm

from msclnet.datasets.archive import open_source
from msclnet.datasets.llcm import LAYOUT, list_records
from msclnet.datasets.records import Choice, Record
from msclnet.errors import UserError

ALL_TRAIN = Choice(validation=False)
LISTS = {
    "train_vis": "vis/0351/0351_c06_s200656_f4830_vis.jpg 1\nvis/0009/0009_c03_s1_f1_vis.jpg 0\n",
    "train_nir": "nir/0351/0351_c04_s200656_f4831_nir.jpg 1\nnir/0009/0009_c09_s1_f1_nir.jpg 0\n",
    "test_id": "1000,12\n",
}
# By hand: splits in order, then the folder's number, camera, path.
EXPECTED = [
    Record("vis/0009/0009_c03_s1_f1_vis.jpg", 9, 3, "visible", "train"),
    Record("nir/0009/0009_c09_s1_f1_nir.jpg", 9, 9, "infrared", "train"),
    Record("nir/0351/0351_c04_s200656_f4831_nir.jpg", 351, 4, "infrared", "train"),
    Record("vis/0351/0351_c06_s200656_f4830_vis.jpg", 351, 6, "visible", "train"),
    Record("test_nir/cam1/0012/0012_c01_s1_f1_nir.jpg", 12, 1, "infrared", "test"),
    Record("test_vis/cam1/0012/0012_c01_s1_f2_vis.jpg", 12, 1, "visible", "test"),
    Record("test_vis/cam3/0012/0012_c03_s1_f2_vis.jpg", 12, 3, "visible", "test"),
    Record("test_nir/cam9/1000/1000_c09_s1_f1_nir.jpg", 1000, 9, "infrared", "test"),
]


def write(root: Path, lists: dict[str, str] = LISTS, *, more: tuple[str, ...] = ()) -> Path:
    for name in [*(record.path for record in EXPECTED), *more]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"pixels are not looked at here")
    (root / "idx").mkdir(exist_ok=True)
    for name, text in lists.items():
        (root / f"idx/{name}.txt").write_bytes(text.encode())
    return root


def test_records_and_their_order(tmp_path: Path) -> None:
    assert list_records(open_source(write(tmp_path)), ALL_TRAIN) == EXPECTED


@pytest.mark.parametrize("top", ["LLCM", "cam7", "test_vis/cam5/0001", "vis/0002", "x_c05_y"])
@pytest.mark.parametrize("archive", [False, True])
def test_a_top_folder_of_any_name(tmp_path: Path, top: str, archive: bool) -> None:
    write(tmp_path / "images" / top)
    path = tmp_path / "images"
    if archive:
        path = tmp_path / "images.zip"
        with zipfile.ZipFile(path, "w") as opened:
            for file in sorted((tmp_path / "images").rglob("*"), reverse=True):
                opened.write(file, file.relative_to(tmp_path / "images").as_posix())
    expected = [replace(record, path=f"{top}/{record.path}") for record in EXPECTED]
    assert list_records(open_source(path), ALL_TRAIN) == expected


def test_a_root_whose_own_path_looks_like_a_camera(tmp_path: Path) -> None:
    assert list_records(open_source(write(tmp_path / "cam2" / "my_c08_cam4")), ALL_TRAIN) == EXPECTED


def test_what_does_not_count(tmp_path: Path) -> None:
    strangers = (
        "vis/0012/0012_c01_s1_f2_vis.jpg",  # copies of test images beside the training images
        "nir/1000/1000_c09_s1_f1_nir.jpg",
        "vis/0351/0351_c01_s9_f9_vis.jpg",  # in no training list
        "test_vis/cam1/0351/0351_c01_s9_f9_vis.jpg",  # no test identity
        "test_nir/cam3/0012/0012_c03_s9_f9_nir.jpg",  # a camera without near-infrared
        "test_vis/cam1/0012/._0012_c01_s1_f2_vis.jpg",
        "test_vis/cam0/0012/0012_c00_s1_f2_vis.jpg",
        "test_vis/cam1/0012/Thumbs.db",
    )
    assert list_records(open_source(write(tmp_path, more=strangers)), ALL_TRAIN) == EXPECTED


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("/", "\\").replace(",", " , "),
        lambda text: "\ufeff" + text,
        lambda text: text.replace(".jpg", ".JPG").replace(",", ", "),
        lambda text: text.rstrip("\n"),
    ],
)
def test_lists_as_systems_and_editors_leave_them(tmp_path: Path, change) -> None:
    lists = {name: change(text) for name, text in LISTS.items()}
    assert list_records(open_source(write(tmp_path, lists)), ALL_TRAIN) == EXPECTED


def test_the_test_lists_are_not_read(tmp_path: Path) -> None:
    lists = {**LISTS, "test_vis": "anything", "test_nir": ""}
    assert list_records(open_source(write(tmp_path, lists)), ALL_TRAIN) == EXPECTED


def test_listed_images_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / EXPECTED[0].path).unlink()
    assert list_records(open_source(tmp_path), ALL_TRAIN) == EXPECTED[1:]


def test_no_image_at_all(tmp_path: Path) -> None:
    write(tmp_path)
    for record in EXPECTED:
        (tmp_path / record.path).unlink()
    with pytest.raises(UserError, match="none of the listed images"):
        list_records(open_source(tmp_path), ALL_TRAIN)


@pytest.mark.parametrize("missing", sorted(LISTS))
def test_missing_list(tmp_path: Path, missing: str) -> None:
    write(tmp_path, {name: text for name, text in LISTS.items() if name != missing})
    with pytest.raises(UserError, match=rf"idx/{missing}\.txt is missing"):
        list_records(open_source(tmp_path), ALL_TRAIN)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train_vis": "vis/0351/0351_s1_f1_vis.jpg 1\n"}, r"idx/train_vis\.txt line 1 is 'vis/0351/0351_s1"),
        ({"train_vis": "vis/0351/_c06_.jpg 1\n"}, r"idx/train_vis\.txt line 1"),
        ({"train_vis": "nir/0351/0351_c04_s200656_f4831_nir.jpg 1\n"}, r"idx/train_vis\.txt line 1 is 'nir/"),
        ({"train_nir": ""}, r"idx/train_nir\.txt is empty"),
        (
            {"train_nir": "nir/0351/0351_c04_s200656_f4831_nir.jpg 0\n"},
            r"idx/train_nir\.txt line 1 gives identity 351 .*label 0.*idx/train_vis\.txt line",
        ),
        ({"test_id": "12,one"}, r"idx/test_id\.txt holds 'one'"),
        (
            {"test_id": "12,351"},
            r"identity 351 is listed for training .*and for the test \(idx/test_id\.txt\)",
        ),
    ],
)
def test_wrong_lists(tmp_path: Path, lists: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list_records(open_source(write(tmp_path, {**LISTS, **lists})), ALL_TRAIN)


@pytest.mark.parametrize("awkward", [False, True])
def test_replica(tmp_path: Path, awkward: bool) -> None:
    root = tmp_path / "cam3" / "vis"
    written = write_llcm(root, train=4, test=4, awkward=awkward)
    found = list_records(open_source(root), ALL_TRAIN)
    assert len(found) == len(written)
    assert set(found) == set(written)
    assert {(r.modality, r.camera) for r in found if r.camera == 3} == {("visible", 3)}
    if awkward:
        assert {record.path[-4:] for record in found} == {".jpg", ".JPG"}


def test_every_tenth_training_identity_validates(tmp_path: Path) -> None:
    written = write_llcm(tmp_path, train=31, test=2, images=1, cameras=(2, 3, 5), size=(4, 8))
    found = list_records(open_source(tmp_path), Choice(validation=True))
    trained = sorted({record.identity for record in written if record.split == "train"})
    validating = (trained[9], trained[19], trained[29])
    assert set(found) == {replace(r, split="val") if r.identity in validating else r for r in written}


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("LLCM/nir/0351/0351_c06_s200656_f4830_nir.jpg", True),
        ("test_vis/cam9/0003/a.JPG", True),
        ("a/test_nir/cam1/0003/a.jpg", True),
        ("idx/test_id.txt", True),
        ("LLCM/idx/test_nir.txt", True),
        ("idx/readme.txt", False),
        ("test_vis/0003/a.jpg", False),
        ("my_vis/0003/a.jpg", False),
        ("vis/0003/._a.jpg", False),
        ("idx/train_visible_1.txt", False),
    ],
)
def test_which_files_belong_to_the_data_set(name: str, belongs: bool) -> None:
    assert LAYOUT.includes(name) is belongs
