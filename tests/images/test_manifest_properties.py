"""Manifests by properties: whatever is written is read, and no damage whatever passes for data."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from msclnet.datasets.records import SPLITS, Record
from msclnet.errors import UserError
from msclnet.images.table import Entry, read_manifest, write_manifest

MODERATELY = settings(derandomize=True, deadline=None, database=None, max_examples=60)

# Control characters and halves of characters are refused where archives are read.
paths = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)
numbers = st.integers(0, 2**63 - 1)
records = st.builds(
    Record,
    path=paths,
    identity=numbers,
    camera=numbers,
    modality=st.sampled_from(["visible", "infrared"]),
    split=st.sampled_from(SPLITS),
)
entries = st.lists(
    st.builds(Entry, records, st.text("0123456789abcdef", min_size=64, max_size=64)), max_size=6
)


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
            data[first:first] = draw(
                st.binary(min_size=1, max_size=4) | st.sampled_from([b'"', b"\n", b",", b"\0"])
            )
        elif kind == "cut":
            del data[first:]
        elif kind == "swap lines":
            lines = bytes(data).splitlines(keepends=True)
            if len(lines) > 1:
                at = draw(st.integers(0, len(lines) - 2))
                lines[at], lines[at + 1] = lines[at + 1], lines[at]
                data = bytearray(b"".join(lines))
        elif digits := [at for at, byte in enumerate(data) if 48 <= byte < 58]:
            at = draw(st.sampled_from(digits))
            data[at] = 48 + (data[at] - 47) % 10
    return bytes(data)


def written(folder: str, given_entries: list[Entry]) -> Path:
    path = Path(folder) / "manifest.csv"
    write_manifest(path, given_entries)
    return path


@MODERATELY
@given(entries)
def test_what_is_written_is_read(given_entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, given_entries)
        for split in SPLITS:
            expected = [entry.record for entry in given_entries if entry.record.split == split]
            rows = read_manifest(path, split)
            found = zip(rows.paths, rows.identities, rows.cameras, rows.infrared, strict=True)
            assert list(found) == [(r.path, r.identity, r.camera, r.modality == "infrared") for r in expected]


@MODERATELY
@given(entries, st.data())
def test_damage_never_passes_for_data(given_entries: list[Entry], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, given_entries)
        whole = path.read_bytes()
        damaged = data.draw(damages(whole))
        assume(damaged != whole)
        path.write_bytes(damaged)
        for split in SPLITS:
            with pytest.raises(UserError, match=r"manifest\.csv is no manifest"):
                read_manifest(path, split)


@MODERATELY
@given(st.binary(max_size=200))
def test_anything_else_is_no_manifest(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.csv"
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"manifest\.csv is no manifest"):
            read_manifest(path, "train")
