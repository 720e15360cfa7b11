"""SYSU-MM01's layout on disk: which images count, for whom, in which order."""

import random
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from replicas import write_sysu_mm01

from msclnet.datasets.archive import open_source
from msclnet.datasets.records import Choice, Record
from msclnet.datasets.sysu_mm01 import LAYOUT, list_records
from msclnet.errors import UserError

LISTS = {"exp/train_id.txt": b"3,1", "exp/val_id.txt": b"2", "exp/test_id.txt": b"10,4"}
IMAGES = (
    "cam1/0001/0002.jpg",
    "cam1/0001/0001.jpg",
    "cam3/0001/0001.jpg",
    "cam2/0003/0001.jpg",
    "cam6/0002/0001.jpg",
    "cam4/0010/0001.jpg",
    "cam5/0004/0007.jpg",
    "cam1/0099/0001.jpg",  # in no list
)
# By hand: splits in the order train, val, test; then identity as a number, camera, path.
EXPECTED = [
    Record("cam1/0001/0001.jpg", 1, 1, "visible", "train"),
    Record("cam1/0001/0002.jpg", 1, 1, "visible", "train"),
    Record("cam3/0001/0001.jpg", 1, 3, "infrared", "train"),
    Record("cam2/0003/0001.jpg", 3, 2, "visible", "train"),
    Record("cam6/0002/0001.jpg", 2, 6, "infrared", "val"),
    Record("cam5/0004/0007.jpg", 4, 5, "visible", "test"),
    Record("cam4/0010/0001.jpg", 10, 4, "visible", "test"),
]


HELD_OUT = Choice(validation=True)
NONE_HELD_OUT = Choice(validation=False)


def files(lists: Mapping[str, bytes] = LISTS, images: tuple[str, ...] = IMAGES) -> dict[str, bytes]:
    return {**lists, **dict.fromkeys(images, b"pixels are not looked at here")}


def records_of(
    where: Path,
    content: Mapping[str, bytes],
    *,
    archive: bool = False,
    top: str = "",
    choice: Choice = HELD_OUT,
) -> list[Record]:
    """Write the files in a shuffled order below `top`, then list them."""
    names = sorted(content)
    random.Random(5).shuffle(names)
    if archive:
        path = where / "images.zip"
        with zipfile.ZipFile(path, "w") as opened:
            for name in names:
                opened.writestr(top + name, content[name])
        return list_records(open_source(path), choice)
    root = where / "images"
    for name in names:
        path = root / (top + name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[name])
    return list_records(open_source(root), choice)


@pytest.mark.parametrize("archive", [False, True])
def test_records_and_their_order(tmp_path: Path, archive: bool) -> None:
    assert records_of(tmp_path, files(), archive=archive) == EXPECTED


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("top", ["SYSU-MM01/", "a/b/", "cam1/", "my cam3/0001/", "exp/"])
def test_a_top_folder_of_any_name(tmp_path: Path, top: str, archive: bool) -> None:
    expected = [Record(top + r.path, r.identity, r.camera, r.modality, r.split) for r in EXPECTED]
    assert records_of(tmp_path, files(), archive=archive, top=top) == expected


@pytest.mark.parametrize("name", ["cam6", "cam1/0001", "webcam"])
def test_a_root_whose_own_path_looks_like_a_camera(tmp_path: Path, name: str) -> None:
    where = tmp_path / name
    where.mkdir(parents=True)
    assert records_of(where, files()) == EXPECTED


def test_the_outermost_of_two_data_sets_counts(tmp_path: Path) -> None:
    nested = {f"backup/{name}": content for name, content in files().items()}
    assert records_of(tmp_path, {**files(), **nested}) == EXPECTED


def test_files_that_are_no_images_of_the_layout_are_left_out(tmp_path: Path) -> None:
    strangers = (
        "cam7/0001/0001.jpg",
        "cam0/0001/0001.jpg",
        "cam1/0001/Thumbs.db",
        "cam1/0001/0001.jpg.txt",
        "cam1/0001/more/0001.jpg",
        "cam1/0001.jpg",
        "cam1/one/0001.jpg",
        "__MACOSX/cam1/0001/._0001.jpg",
        "cam1/0001/._0001.jpg",
        "readme.md",
    )
    assert records_of(tmp_path, files(images=IMAGES + strangers)) == EXPECTED


def test_extensions_of_any_case(tmp_path: Path) -> None:
    images = ("cam1/0001/a.JPG", "cam1/0001/b.Jpeg", "cam1/0001/c.PNG", "cam1/0001/d.bmp")
    assert [record.path for record in records_of(tmp_path, files(images=images))] == list(images)


@pytest.mark.parametrize(
    "text",
    [
        b"3,1\r\n",
        b"3, 1",
        b"\xef\xbb\xbf3,1",
        b"\xef\xbb\xbf3 ,\t1,\r\n",
        b"3\r\n1\r\n",
        b"\n 0003,0001 \n\n",
        b"3,,1",
    ],
)
def test_id_lists_as_editors_leave_them(tmp_path: Path, text: bytes) -> None:
    assert records_of(tmp_path, files({**LISTS, "exp/train_id.txt": text})) == EXPECTED


def test_identity_that_some_cameras_never_saw(tmp_path: Path) -> None:
    found = records_of(tmp_path, files())
    assert {record.camera for record in found if record.identity == 1} == {1, 3}
    assert {record.camera for record in found if record.identity == 3} == {2}


def test_a_listed_identity_without_images_is_no_mistake(tmp_path: Path) -> None:
    assert records_of(tmp_path, files({**LISTS, "exp/train_id.txt": b"1,3,500"})) == EXPECTED


def test_one_image_only(tmp_path: Path) -> None:
    found = records_of(tmp_path, files(images=("cam6/0002/0001.jpg",)))
    assert found == [Record("cam6/0002/0001.jpg", 2, 6, "infrared", "val")]


def test_an_empty_list_leaves_its_split_empty(tmp_path: Path) -> None:
    found = records_of(tmp_path, files({**LISTS, "exp/val_id.txt": b"\n"}))
    assert found == [record for record in EXPECTED if record.split != "val"]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"exp/val_id.txt": b"2,3"}, r"identity 3 .*exp/train_id\.txt.*exp/val_id\.txt"),
        ({"exp/test_id.txt": b"2"}, r"identity 2 .*exp/val_id\.txt.*exp/test_id\.txt"),
        ({"exp/train_id.txt": b"3,one"}, r"exp/train_id\.txt holds 'one'"),
        ({"exp/train_id.txt": b"3,-1"}, r"exp/train_id\.txt holds '-1'"),
        ({"exp/train_id.txt": b"3;1"}, r"exp/train_id\.txt holds '3;1'"),
        ({"exp/train_id.txt": b"3,1.5"}, r"exp/train_id\.txt holds '1\.5'"),
        ({"exp/train_id.txt": "3,²".encode()}, r"exp/train_id\.txt holds '²'"),
    ],
)
def test_wrong_lists(tmp_path: Path, lists: dict[str, bytes], message: str) -> None:
    with pytest.raises(UserError, match=message):
        records_of(tmp_path, files({**LISTS, **lists}))


@pytest.mark.parametrize("missing", ["train", "val", "test"])
def test_missing_list(tmp_path: Path, missing: str) -> None:
    lists = {name: text for name, text in LISTS.items() if missing not in name}
    with pytest.raises(UserError, match=rf"exp/{missing}_id\.txt is missing"):
        records_of(tmp_path, files(lists))


def test_no_image_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image"):
        records_of(tmp_path, files(images=("cam1/0099/0001.jpg",)))


def test_without_validation_its_identities_train_too(tmp_path: Path) -> None:
    train = [replace(record, split="train") for record in EXPECTED if record.split != "test"]
    # By hand: identities 1, 2 and 3 in the order of their numbers.
    expected = [*train[:3], train[4], train[3], *(record for record in EXPECTED if record.split == "test")]
    assert records_of(tmp_path, files(), choice=NONE_HELD_OUT) == expected


def test_an_identity_twice_in_one_list(tmp_path: Path) -> None:
    assert records_of(tmp_path, files({**LISTS, "exp/train_id.txt": b"3,1,3"})) == EXPECTED


def test_the_list_of_all_identities_is_not_read(tmp_path: Path) -> None:
    assert records_of(tmp_path, files({**LISTS, "exp/available_id.txt": b"99,\xff no list"})) == EXPECTED


def test_folders_renamed_by_a_system_without_lowercase(tmp_path: Path) -> None:
    upper = {name.upper(): content for name, content in files().items()}
    expected = [replace(record, path=record.path.upper()) for record in EXPECTED]
    assert records_of(tmp_path, upper) == expected


@pytest.mark.parametrize("awkward", [False, True])
@pytest.mark.parametrize("choice", [HELD_OUT, NONE_HELD_OUT])
def test_replica(tmp_path: Path, awkward: bool, choice: Choice) -> None:
    root = tmp_path / "cam3" / "exp"
    written = write_sysu_mm01(root, train=5, val=3, test=4, awkward=awkward)
    if not choice.validation:
        written = [
            replace(record, split="train" if record.split == "val" else record.split) for record in written
        ]
    found = list_records(open_source(root), choice)
    assert len(found) == len(written)
    assert set(found) == set(written)
    if awkward:
        assert {record.path[-4:] for record in found} == {".jpg", ".JPG"}
        per_person = [sum(r.identity == identity for r in found) for identity in {r.identity for r in found}]
        assert min(per_person) == 1


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("cam1/0001/0001.jpg", True),
        ("SYSU-MM01/cam6/0333/0020.JPG", True),
        ("my cam3/exp/cam2/0001/0001.jpg", True),
        ("exp/train_id.txt", True),
        ("SYSU-MM01/exp/available_id.txt", True),
        ("cam7/0001/0001.jpg", False),
        ("webcam1/0001/0001.jpg", False),
        ("__MACOSX/cam1/0001/._0001.jpg", False),
        ("cam1/0001/Thumbs.db", False),
        ("exp/train_id.mat", False),
        ("cam1_video_train/0001/0001.jpg", False),
        ("idx/train_vis.txt", False),
    ],
)
def test_which_files_belong_to_the_data_set(name: str, belongs: bool) -> None:
    assert LAYOUT.includes(name) is belongs


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_as_editors_on_windows_save_them(tmp_path: Path, encoding: str) -> None:
    lists = {name: text.decode().encode(encoding) for name, text in LISTS.items()}
    assert records_of(tmp_path, files(lists)) == EXPECTED


@pytest.mark.parametrize("second", ["SYSU-MM01 - Copy", "SYSU-MM01-masked", "SYSU-MM01.bak", "SYSU-MM01 (1)"])
def test_two_copies_side_by_side_are_an_error_that_names_them(tmp_path: Path, second: str) -> None:
    content = {f"{top}/{name}": data for top in ("SYSU-MM01", second) for name, data in files().items()}
    with pytest.raises(UserError) as caught:
        records_of(tmp_path, content)
    for part in ("SYSU-MM01/", f"{second}/", "link one of them"):
        assert part in str(caught.value)


def test_the_outermost_folder_with_lists_and_images_is_the_root(tmp_path: Path) -> None:
    """Neither a copy further down nor a list of something else further up takes its place."""
    content = {f"data/SYSU-MM01/{name}": data for name, data in files().items()}
    content |= {f"data/backup/SYSU-MM01/{name}": data for name, data in files().items()}
    content |= {"exp/train_id.txt": b"77"}
    found = records_of(tmp_path, content)
    assert found == [replace(record, path=f"data/SYSU-MM01/{record.path}") for record in EXPECTED]


def test_images_one_folder_lower_than_the_lists_are_named(tmp_path: Path) -> None:
    content = {**LISTS, **{f"images/{name}": b"" for name in IMAGES}}
    with pytest.raises(
        UserError, match=r"lists were found in the top folder, images in images/: put them side by"
    ):
        records_of(tmp_path, content)
