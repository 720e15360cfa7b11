"""The table of all images: what was written is read, and damage is told from data."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from msclnet.datasets.records import SPLITS, Record
from msclnet.errors import UserError
from msclnet.images.table import Entry, file_digest, read_manifest, write_manifest

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
    text = written(tmp_path).read_bytes()
    *lines, last = csv.DictReader(text.decode().splitlines())
    before, mark, _ = text.rpartition(b"end,")
    assert mark
    assert list(last.values()) == ["end", "5", "", "", "", "", hashlib.sha256(before).hexdigest()]
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


def closed(text: str, *, rows: int | None = None) -> str:
    """The text with the last line that belongs to it."""
    count = text.count("\n") - 1 if rows is None else rows
    return f"{text}end,{count},,,,,{hashlib.sha256(text.encode()).hexdigest()}\n"


def test_a_sound_table(tmp_path: Path) -> None:
    """What the damaged ones below are compared with."""
    path = tmp_path / "manifest.csv"
    path.write_text(closed(HEADER + SOUND), encoding="utf-8")
    rows = read_manifest(path, "train")
    assert (rows.identities.tolist(), rows.paths.tolist(), len(read_manifest(path, "val"))) == (
        [7],
        ["a.jpg"],
        0,
    )
    for text in (HEADER + SOUND, closed(HEADER + SOUND, rows=2), closed(HEADER + SOUND)[:-1]):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"it is torn or was changed|1 rows of"):
            read_manifest(path, "train")


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
        HEADER + SOUND.replace("7", "9" * 30),
        HEADER + SOUND.replace("7", "9" * 5000),
        HEADER + SOUND.replace("train", "trian"),
        HEADER + SOUND.replace("0" * 64, "0" * 63),
        HEADER + SOUND.replace("\n", ",\n"),
        HEADER + '"' + SOUND,
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
        "identity beyond 64 bits",
        "identity beyond all numbers",
        "another split",
        "short digest",
        "one column more",
        "open quote",
    ],
)
def test_damaged_files(tmp_path: Path, text: str) -> None:
    """Tables that are wrong although their last line is right, and without it."""
    path = tmp_path / "manifest.csv"
    for content in (closed(text), text):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=r"(?s)manifest\.csv is no manifest.*preprocess --force"):
            read_manifest(path, "train")


def test_a_file_that_ends_within_a_line(tmp_path: Path) -> None:
    """Wherever a full disk or a broken copy cut the file, no row is made up from the rest, and none is missed."""
    path = tmp_path / "manifest.csv"
    whole = closed(HEADER + SOUND)
    for length in range(len(whole)):
        path.write_text(whole[:length], encoding="utf-8")
        with pytest.raises(UserError, match="is no manifest"):
            read_manifest(path, "train")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    body = HEADER.encode() + b"train,0,7,1,visible,\xff\xfe.jpg," + b"0" * 64 + b"\n"
    path.write_bytes(body + f"end,1,,,,,{hashlib.sha256(body).hexdigest()}\n".encode())
    with pytest.raises(UserError, match="is no manifest"):
        read_manifest(path, "train")


def test_a_field_beyond_any_measure(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(closed(HEADER + SOUND.replace("a.jpg", "a" * 200_000)), encoding="utf-8")
    with pytest.raises(UserError, match="is no manifest"):
        read_manifest(path, "train")


def test_digest(tmp_path: Path) -> None:
    path = tmp_path / "some.bin"
    path.write_bytes(bytes(range(256)) * 999)
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
