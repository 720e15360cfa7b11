"""The manifest and the arrays: what was written is read, and no damage whatever passes for data."""

import csv
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from msclnet.datasets.records import SPLITS, Record
from msclnet.errors import UserError
from msclnet.images.table import Entry, file_digest, open_array, read_manifest, write_manifest

RECORDS = (
    Record("cam1/0007/0001.jpg", 7, 1, "visible", "train"),
    Record("top, folder/cam3/0007/0001.jpg", 7, 3, "infrared", "train"),
    Record('cam2/0123/the "best" one.jpg', 123, 2, "visible", "test"),
    Record("cam6/0123/фото.jpg", 123, 6, "infrared", "test"),
    Record("cam6/0007/0002.jpg", 7, 6, "infrared", "train"),
)
ENTRIES = [Entry(record, hashlib.sha256(record.path.encode()).hexdigest()) for record in RECORDS]


def test_the_file_as_other_programs_read_it(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, ENTRIES)
    text = path.read_bytes()
    assert b"\r" not in text
    *lines, last = csv.DictReader(text.decode().splitlines())
    before, _, _ = text.rpartition(b"end,")
    assert list(last.values()) == ["end", "5", "", "", "", "", hashlib.sha256(before).hexdigest()]
    assert [line["sha256"] for line in lines] == [entry.sha256 for entry in ENTRIES]
    places = [("train", "0"), ("train", "1"), ("test", "0"), ("test", "1"), ("train", "2")]
    assert [(line["split"], line["row"]) for line in lines] == places
    rows = read_manifest(path, "train")
    assert [rows.identities.dtype, rows.cameras.dtype, rows.infrared.dtype] == [np.int64, np.int64, bool]
    assert file_digest(path) == hashlib.sha256(text).hexdigest()
    with pytest.raises(UserError, match=r"other\.csv: no such file.*dvc repro preprocess"):
        read_manifest(tmp_path / "other.csv", "train")


HEADER = "split,row,identity,camera,modality,path,sha256\n"
SOUND = f"train,0,7,1,visible,a.jpg,{'0' * 64}\n"


def closed(text: str, *, rows: int | None = None) -> str:
    """The text with the last line that belongs to it."""
    count = text.count("\n") - 1 if rows is None else rows
    return f"{text}end,{count},,,,,{hashlib.sha256(text.encode()).hexdigest()}\n"


DAMAGED = {
    "empty": "",
    "another table": "identity,camera\n7,1\n",
    "no header": SOUND,
    "another column": HEADER.replace("path", "file") + SOUND,
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_damaged_manifests(tmp_path: Path, text: str) -> None:
    """Tables that are wrong although their last line is right, and without it."""
    path = tmp_path / "manifest.csv"
    path.write_text(closed(HEADER + SOUND), encoding="utf-8")
    assert read_manifest(path, "train").paths.tolist() == ["a.jpg"]
    for content in (closed(text), text):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=r"(?s)manifest\.csv is no manifest.*preprocess --force"):
            read_manifest(path, "train")


def test_a_manifest_that_ends_within_a_line(tmp_path: Path) -> None:
    """Wherever a full disk or a broken copy cut the file, no row is made up from the rest, and none is missed."""
    path = tmp_path / "manifest.csv"
    whole = closed(HEADER + SOUND)
    for text in (*(whole[:length] for length in range(len(whole))), closed(HEADER + SOUND, rows=2)):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="is no manifest"):
            read_manifest(path, "train")
    body = HEADER.encode() + b"train,0,7,1,visible,\xff\xfe.jpg," + b"0" * 64 + b"\n"
    path.write_bytes(body + f"end,1,,,,,{hashlib.sha256(body).hexdigest()}\n".encode())
    with pytest.raises(UserError, match="is no manifest"):
        read_manifest(path, "train")


MODERATELY = settings(derandomize=True, deadline=None, database=None, max_examples=50)
# Control characters and halves of characters are refused where archives are read.
paths = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)
numbers = st.integers(0, 2**63 - 1)
modalities = st.sampled_from(["visible", "infrared"])
records = st.builds(Record, paths, numbers, numbers, modalities, st.sampled_from(SPLITS))
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
entries = st.lists(st.builds(Entry, records, digests), max_size=6)


@st.composite
def damages(draw: st.DrawFn, whole: bytes) -> bytes:
    """Another text: bits flipped, a part lost, doubled or moved, something put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        first, second = sorted(draw(st.integers(0, len(data))) for _ in range(2))
        kind = draw(st.sampled_from(["flip", "lose", "double", "insert", "cut", "swap lines", "digit"]))
        if kind == "flip" and first < len(data):
            data[first] ^= 1 << draw(st.integers(0, 7))
        elif kind == "lose":
            del data[first:second]
        elif kind == "double":
            data[second:second] = data[first:second]
        elif kind == "insert":
            data[first:first] = draw(st.binary(min_size=1, max_size=4) | st.sampled_from([b'"', b"\n", b","]))
        elif kind == "cut":
            del data[first:]
        elif kind == "swap lines" and len(lines := bytes(data).splitlines(keepends=True)) > 1:
            at = draw(st.integers(0, len(lines) - 2))
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
            data = bytearray(b"".join(lines))
        elif digits := [at for at, byte in enumerate(data) if 48 <= byte < 58]:
            at = draw(st.sampled_from(digits))
            data[at] = 48 + (data[at] - 47) % 10
    return bytes(data)


@MODERATELY
@given(entries, st.data(), st.binary(max_size=200))
def test_what_is_written_is_read_and_nothing_else(
    given_entries: list[Entry], data: st.DataObject, anything: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.csv"
        write_manifest(path, given_entries)
        for split in SPLITS:
            expected = [entry.record for entry in given_entries if entry.record.split == split]
            rows = read_manifest(path, split)
            found = zip(rows.paths, rows.identities, rows.cameras, rows.infrared, strict=True)
            assert list(found) == [(r.path, r.identity, r.camera, r.modality == "infrared") for r in expected]
        whole = path.read_bytes()
        damaged = data.draw(damages(whole))
        assume(damaged != whole)
        for content in (damaged, anything):
            path.write_bytes(content)
            with pytest.raises(UserError, match=r"manifest\.csv is no manifest"):
                read_manifest(path, "train")


PIXELS = np.random.default_rng(0).integers(0, 256, size=(2, 8, 4, 3), dtype=np.uint8)


def test_the_map_is_read_only(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    array = open_array(tmp_path / "a.npy")
    assert isinstance(array, np.memmap)
    np.testing.assert_array_equal(array, PIXELS)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0
    with pytest.raises(UserError, match=r"images_val\.npy: no such file.*dvc repro preprocess"):
        open_array(tmp_path / "images_val.npy")


@pytest.mark.parametrize(
    "array", [PIXELS.astype(np.float32), PIXELS[..., 0], PIXELS[..., :2], PIXELS.transpose(0, 3, 1, 2)]
)
def test_an_array_of_another_kind(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=r"a\.npy holds .* instead of uint8 \(N, H, W, 3\)"):
        open_array(tmp_path / "a.npy")


WRITERS: dict[str, Any] = {
    "empty": lambda path, whole: path.write_bytes(b""),
    "text": lambda path, whole: path.write_bytes(b"no array\n"),
    "torn header": lambda path, whole: path.write_bytes(whole[:60]),
    "torn pixels": lambda path, whole: path.write_bytes(whole[:-5]),
    "header changed": lambda path, whole: path.write_bytes(whole.replace(b"'descr'", b"'(escr'")),
    "header unfinished": lambda path, whole: path.write_bytes(whole.replace(b"}", b"(")),
    "torn npz": lambda path, whole: path.write_bytes(b"PK\x03\x04" + bytes(30)),
    "npz": lambda path, whole: np.savez(path.open("wb"), a=PIXELS),
    "pickle": lambda path, whole: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_damaged_array(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npy"
    np.save(path, PIXELS)
    WRITERS[kind](path, path.read_bytes())
    with pytest.raises(UserError, match=r"a\.npy .*preprocess --force"):
        open_array(path)
