"""The table of all images: what was written is read, and damage is told from data."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from msclnet.data.manifest import Entry, file_digest, read_manifest, write_manifest
from msclnet.data.records import SPLITS, Record
from msclnet.errors import UserError

RECORDS = (
    Record("cam1/0007/0001.jpg", 7, 1, "visible", "train"),
    Record("top, folder/cam3/0007/0001.jpg", 7, 3, "infrared", "train"),
    Record('cam2/0123/the "best" one.jpg', 123, 2, "visible", "test"),
    Record("cam6/0007/0002.jpg", 7, 6, "infrared", "train"),
    Record("cam6/0123/фото.jpg", 123, 6, "infrared", "test"),
)
ENTRIES = [Entry(record, hashlib.sha256(record.path.encode()).hexdigest()) for record in RECORDS]


def written(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.csv"
    write_manifest(path, ENTRIES)
    return path


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_written_is_read(tmp_path: Path, split: str) -> None:
    rows = read_manifest(written(tmp_path), split)  # pyright: ignore[reportArgumentType]
    expected = [record for record in RECORDS if record.split == split]
    assert len(rows) == len(expected)
    assert rows.identities.tolist() == [record.identity for record in expected]
    assert rows.cameras.tolist() == [record.camera for record in expected]
    assert rows.infrared.tolist() == [record.modality == "infrared" for record in expected]
    assert rows.paths.tolist() == [record.path for record in expected]
    assert [rows.identities.dtype, rows.cameras.dtype, rows.infrared.dtype] == [np.int64, np.int64, bool]


def test_the_file_by_other_eyes(tmp_path: Path) -> None:
    with written(tmp_path).open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["sha256"] for line in lines] == [entry.sha256 for entry in ENTRIES]
    assert [(line["split"], line["row"]) for line in lines] == [
        ("train", "0"),
        ("train", "1"),
        ("test", "0"),
        ("train", "2"),
        ("test", "1"),
    ]


def test_same_entries_give_same_bytes(tmp_path: Path) -> None:
    first = written(tmp_path).read_bytes()
    assert written(tmp_path).read_bytes() == first
    assert b"\r" not in first


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest\.csv: no such file.*dvc repro preprocess"):
        read_manifest(tmp_path / "manifest.csv", "train")


HEADER = "split,row,identity,camera,modality,path,sha256\n"
SOUND = f"train,0,7,1,visible,a.jpg,{'0' * 64}\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "identity,camera\n7,1\n",
        SOUND,
        HEADER.replace("path", "file") + SOUND,
        HEADER + SOUND.replace("visible", "thermal"),
        HEADER + SOUND.replace("7", "seven"),
        HEADER + SOUND.replace(",1,", ",,"),
        HEADER + SOUND.replace("train,0", "train,1"),
        HEADER + SOUND + SOUND,
        HEADER + SOUND.replace("train,0", "train,"),
    ],
    ids=[
        "empty",
        "blank",
        "another table",
        "no header",
        "another column",
        "modality",
        "identity",
        "no camera",
        "row missing",
        "row twice",
        "no row",
    ],
)
def test_damaged_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"manifest\.csv is no manifest.*preprocess --force"):
        read_manifest(path, "train")


def test_a_file_that_ends_within_a_line(tmp_path: Path) -> None:
    """Wherever a full disk or a broken copy cut the last line, no row is made up from the rest."""
    path = tmp_path / "manifest.csv"
    accepted = []
    for length in range(1, len(SOUND) - 1):
        path.write_text(HEADER + SOUND[:length], encoding="utf-8")
        try:
            if len(read_manifest(path, "train")):
                accepted.append(SOUND[:length])
        except UserError:
            pass
    assert accepted == []


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_bytes(HEADER.encode() + b"train,0,7,1,visible,\xff\xfe.jpg," + b"0" * 64 + b"\n")
    with pytest.raises(UserError, match="is no manifest"):
        read_manifest(path, "train")


def test_a_field_beyond_any_measure(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(HEADER + SOUND.replace("a.jpg", "a" * 200_000), encoding="utf-8")
    with pytest.raises(UserError, match="is no manifest"):
        read_manifest(path, "train")


def test_digest(tmp_path: Path) -> None:
    path = tmp_path / "some.bin"
    path.write_bytes(bytes(range(256)) * 999)
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
