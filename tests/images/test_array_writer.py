"""Writing the arrays of images, against decoding one file after the other."""

import hashlib
import io
import multiprocessing
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msclnet.datasets.records import Record
from msclnet.errors import UserError
from msclnet.images import writer as array_writer
from msclnet.images.table import open_array
from msclnet.images.writer import Range, camera_ranges, write_array

HEIGHT, WIDTH = 32, 16
COUNT = 75  # more than two chunks
UNREADABLE = {0: b"", 31: b"no image", 40: b"\xff\xd8\xff\xe0 torn", 74: b""}
GRAY = 50


def image_file(number: int) -> bytes:
    rng = np.random.default_rng(number)
    shape = (20 + number % 7, 10 + number % 5) + (() if number == GRAY else (3,))
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, size=shape, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {
    f"cam1/{number:04d}/0001.png": UNREADABLE.get(number) if number in UNREADABLE else image_file(number)
    for number in range(COUNT)
}
RECORDS = [Record(name, number, 1, "visible", "train") for number, name in enumerate(FILES)]
READABLE = [number for number in range(COUNT) if number not in UNREADABLE]


def archive_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_of(tmp_path / "images.zip", {name: content or b"" for name, content in FILES.items()})


def one_by_one(numbers: list[int]) -> np.ndarray:
    """Pillow alone."""
    rows = []
    for number in numbers:
        image = Image.open(io.BytesIO(image_file(number))).convert("RGB")
        rows.append(np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)))
    return np.stack(rows)


def write(target: Path, source: Path, records: list[Record] = RECORDS, *, workers: int = 1):
    return write_array(
        target, records, source=source, height=HEIGHT, width=WIDTH, workers=workers, progress=False
    )


def test_rows_are_the_readable_images_in_order(tmp_path: Path, archive: Path) -> None:
    entries, odd = write(tmp_path / "images_train.npy", archive)
    array = open_array(tmp_path / "images_train.npy")
    np.testing.assert_array_equal(array, one_by_one(READABLE))
    assert [entry.record for entry in entries] == [RECORDS[number] for number in READABLE]
    assert [entry.sha256 for entry in entries] == [
        hashlib.sha256(image_file(number)).hexdigest() for number in READABLE
    ]
    assert {record.identity: outcome.readable for record, outcome in odd} == {
        **dict.fromkeys(UNREADABLE, False),
        GRAY: True,
    }
    assert all(outcome.note for _, outcome in odd)


def test_records_may_come_in_any_order(tmp_path: Path, archive: Path) -> None:
    sound = [number for number in READABLE if number != GRAY]
    shuffled = [sound[i] for i in np.random.default_rng(0).permutation(len(sound))]
    entries, odd = write(tmp_path / "a.npy", archive, [RECORDS[number] for number in shuffled])
    assert (odd, len(entries)) == ([], len(sound))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), one_by_one(shuffled))


def test_two_workers_and_a_folder_give_the_same_bytes(tmp_path: Path, archive: Path) -> None:
    for name, content in FILES.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content or b"")
    children = multiprocessing.active_children()
    made = [
        write(tmp_path / "one.npy", archive, workers=1),
        write(tmp_path / "two.npy", archive, workers=2),
        write(tmp_path / "three.npy", tmp_path / "images"),
    ]
    assert made[0] == made[1] == made[2]
    assert len({path.read_bytes() for path in tmp_path.glob("*.npy")}) == 1
    assert multiprocessing.active_children() == children


def test_an_archive_that_was_replaced_is_read_anew(tmp_path: Path, archive: Path) -> None:
    records = [RECORDS[1]]
    write(tmp_path / "before.npy", archive, records)
    archive.unlink()
    archive_of(archive, {"another member": b"that moves the offsets", RECORDS[1].path: image_file(2)})
    entries, _ = write(tmp_path / "after.npy", archive, records)
    assert entries[0].sha256 == hashlib.sha256(image_file(2)).hexdigest()
    np.testing.assert_array_equal(np.load(tmp_path / "after.npy"), one_by_one([2]))


def test_a_member_that_fails_its_checksum_is_unreadable(tmp_path: Path) -> None:
    """The archive stores its members' checksums; one flipped bit on disk is one odd image."""
    names = [RECORDS[1].path, RECORDS[2].path]
    path = archive_of(tmp_path / "images.zip", {names[0]: image_file(1), names[1]: image_file(2)})
    data = bytearray(path.read_bytes())
    at = data.index(image_file(1)) + len(image_file(1)) // 2
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(zipfile.BadZipFile), zipfile.ZipFile(path) as opened:
        opened.read(names[0])
    entries, odd = write(tmp_path / "a.npy", path, RECORDS[1:3])
    assert [entry.record for entry in entries] == [RECORDS[2]]
    assert [(record, outcome.readable) for record, outcome in odd] == [(RECORDS[1], False)]
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), one_by_one([2]))


@pytest.mark.parametrize("records", [[], [RECORDS[number] for number in UNREADABLE]])
def test_nothing_to_write(tmp_path: Path, archive: Path, records: list[Record]) -> None:
    target = tmp_path / "images_train.npy"
    with pytest.raises(UserError, match=r"images\.zip.*images_train\.npy"):
        write(target, archive, records)
    assert not target.exists()


@pytest.mark.parametrize("former", [False, True])
def test_interrupted_writing_leaves_what_was_there(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, former: bool
) -> None:
    target = tmp_path / "images_train.npy"
    if former:
        write(target, archive, RECORDS[1:4])
    before = target.read_bytes() if former else None
    calls = []

    def interrupted(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) > 40:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(array_writer.os, "pwrite", interrupted)
    with pytest.raises(OSError, match="No space left"):
        write(target, archive)
    assert [path.name for path in tmp_path.rglob("*.npy")] == [target.name] * former
    assert before is None or target.read_bytes() == before


def thermal(low: int, high: int, path: str, camera: int) -> tuple[Record, bytes]:
    buffer = io.BytesIO()
    Image.fromarray(np.linspace(low, high, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)).save(
        buffer, "PNG"
    )
    return Record(path, 1, camera, "infrared", "train"), buffer.getvalue()


def test_images_of_more_than_eight_bits_are_scaled_by_their_cameras_range(tmp_path: Path) -> None:
    """By camera and not by image: what is colder stays darker. A camera of 8 bits has no range."""
    given = [
        thermal(51_000, 51_500, "cam3/0001/1.png", 3),
        thermal(51_400, 52_000, "cam3/0001/2.png", 3),
        thermal(100, 100, "cam6/0001/1.png", 6),
        (RECORDS[1], image_file(1)),
    ]
    source = archive_of(tmp_path / "a.zip", {record.path: data for record, data in given})
    records = [record for record, _ in given]
    ranges = camera_ranges(records, source=source)
    assert ranges == {
        3: Range(51_000, 52_000, 2, round(1 + 255 * (0.5 + 0.6) / 2, 1)),
        6: Range(100, 100, 1, 1.0),
    }
    _, odd = write_array(
        tmp_path / "a.npy", records, source=source, height=HEIGHT, width=WIDTH, ranges=ranges, progress=False
    )
    array = open_array(tmp_path / "a.npy")
    assert [(int(image.min()), int(image.max())) for image in array[:3]] == [(0, 128), (102, 255), (0, 0)]
    np.testing.assert_array_equal(array[3:], one_by_one([1]))
    assert [record.path for record, _ in odd] == [record.path for record in records[:3]]
    assert all("51000..52000" in outcome.note for _, outcome in odd[:2])
