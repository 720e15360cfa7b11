"""A folder and an archive must look alike."""

import zipfile
from pathlib import Path

import pytest

from msclnet.data.source import FolderSource, ZipSource, open_source
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
