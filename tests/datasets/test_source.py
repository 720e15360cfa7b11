"""A folder and an archive must look alike."""

import os
import zipfile
from pathlib import Path

import pytest

from msclnet.datasets import archive as source_module
from msclnet.datasets.archive import FolderSource, UnreadableFileError, ZipSource, open_source, walk
from msclnet.errors import UserError

FILES = {
    "b/2.jpg": b"two",
    "b/10.jpg": b"ten",
    "B/1.jpg": b"upper case comes first",
    "a.txt": b"",
    "deep/er/still.bin": bytes(range(256)),
}
SORTED = ["B/1.jpg", "a.txt", "b/10.jpg", "b/2.jpg", "deep/er/still.bin"]


def as_folder(root: Path) -> Path:
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "empty folder").mkdir()
    return root


def as_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("empty folder")
        for name, content in FILES.items():
            archive.writestr(name, content)
    return path


def test_folder_and_archive_are_alike(tmp_path: Path) -> None:
    folder = open_source(as_folder(tmp_path / "folder"))
    archive = open_source(as_zip(tmp_path / "archive.zip"))
    assert isinstance(folder, FolderSource)
    assert isinstance(archive, ZipSource)
    for source in (folder, archive):
        assert source.names() == SORTED
        assert {name: source.read(name) for name in source.names()} == FILES


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.zip: no such file or folder.*dvc repro download"):
        open_source(tmp_path / "missing.zip")


@pytest.mark.parametrize("damage", ["empty", "text", "no directory"])
def test_no_archive(tmp_path: Path, damage: str) -> None:
    path = as_zip(tmp_path / "images.zip")
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"not an archive", "no directory": whole[:-40]}[damage])
    with pytest.raises(UserError, match=r"images\.zip is neither a folder nor a readable zip"):
        open_source(path)


def test_links_in_a_folder_are_followed(tmp_path: Path) -> None:
    disk = as_folder(tmp_path / "disk")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.txt", "b", "B", "deep"):
        (folder / name).symlink_to(disk / name)
    source = open_source(folder)
    assert source.names() == SORTED
    assert {name: source.read(name) for name in source.names()} == FILES


def test_links_to_nothing_pipes_and_loops(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "folder")
    (folder / "nothing").symlink_to("/nowhere/at all")
    (folder / "itself").symlink_to("itself")
    (folder / "deep/up").symlink_to(folder)
    (folder / "b/aside").symlink_to(folder / "deep")
    os.mkfifo(folder / "pipe")
    # Each link to a folder is entered once from outside, and never from its own inside.
    behind_aside = ["b/aside/er/still.bin", "b/aside/up/b/x", "deep/up/x"]
    names = open_source(folder).names()
    assert [name for name in names if "aside" not in name and "up" not in name] == SORTED
    assert behind_aside[0] in names
    assert max(name.count("/") for name in names) <= 4
    found = dict(walk(folder))
    assert found["nothing"] is None
    assert found["itself"] is None
    assert found["pipe"] is not None


def test_links_that_multiply_end_as_well(tmp_path: Path) -> None:
    """Ten folders, each with two links to the next one: a thousand ways to the last, and no loop."""
    for i in range(10):
        (tmp_path / str(i)).mkdir()
    for i in range(9):
        for name in ("left", "right"):
            (tmp_path / str(i) / name).symlink_to(tmp_path / str(i + 1))
    (tmp_path / "9" / "file").write_bytes(b"")
    assert len(FolderSource(tmp_path / "0").names()) == 2**9
    with pytest.raises(
        UserError, match="more than 500 files and folders; links to folders may multiply them"
    ):
        list(walk(tmp_path / "0", most=500))


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing cannot be read: No such file"):
        FolderSource(tmp_path / "missing").names()


@pytest.mark.parametrize(
    ("method", "size", "reason"),
    [
        (zipfile.ZIP_DEFLATED, 10_001, "more than 10000 bytes"),
        (zipfile.ZIP_STORED, 10_001, "more than 10000 bytes"),
        (zipfile.ZIP_BZIP2, 10, "compressed by a method"),
        (zipfile.ZIP_LZMA, 10, "compressed by a method"),
    ],
)
def test_members_that_unpack_to_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: int, size: int, reason: str
) -> None:
    """The pipeline's own archive may come from somebody else's cache."""
    monkeypatch.setattr(source_module, "MOST_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "images.zip", "w", method) as archive:
        archive.writestr("bomb.jpg", bytes(size))
        archive.writestr("largest.jpg", bytes(10_000), zipfile.ZIP_DEFLATED)
    source = open_source(tmp_path / "images.zip")
    with pytest.raises(UnreadableFileError, match=reason):
        source.read("bomb.jpg")
    assert source.read("largest.jpg") == bytes(10_000)


def test_members_that_are_encrypted_or_lie_about_their_place(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "images.zip")
    whole = path.read_bytes()
    entry = whole.rindex(b"PK\1\2", 0, whole.index(b"b/2.jpg", whole.index(b"PK\1\2")))
    for offset, value in ((8, b"\1"), (42, b"\xff\xff\0\0")):  # flag, place
        data = bytearray(whole)
        data[entry + offset : entry + offset + len(value)] = value
        path.write_bytes(data)
        with pytest.raises(UnreadableFileError, match="damaged in the archive"):
            open_source(path).read("b/2.jpg")
