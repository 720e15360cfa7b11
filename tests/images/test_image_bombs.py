"""Small files that declare enormous images are refused by what they declare, and cost no memory."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bombs import BOMBS, png
from PIL import Image, ImageFile

from msclnet.datasets.archive import MOST_FILE_BYTES, FolderSource, UnreadableFileError
from msclnet.datasets.records import Record
from msclnet.images.decode import MOST_PIXELS, MOST_SIDE, UnreadableImageError, decode
from msclnet.images.table import open_array
from msclnet.images.user_files import read_image
from msclnet.images.writer import write_array

DECLARED = r"declares \d+( x \d+)? pixels(, too many|; no side)"


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_and_nothing_of_it_is_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoding(*_: object) -> None:
        raise AssertionError("a pixel was about to be decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoding)
    assert len(BOMBS[kind]) < 1000
    with pytest.raises(UnreadableImageError, match=DECLARED):
        decode(BOMBS[kind])


MEASURE = """
import re, sys
from pathlib import Path
from bombs import BOMBS
from msclnet.images.decode import UnreadableImageError, decode

def most():
    return int(re.search(r"VmHWM:\\s*([0-9]+) kB", Path("/proc/self/status").read_text())[1])

decode(Path(sys.argv[1]).read_bytes())
before = most()
for bomb in BOMBS.values():
    try:
        decode(bomb)
    except UnreadableImageError:
        continue
    raise AssertionError
print(most() - before)
decode(Path(sys.argv[2]).read_bytes())
print(most() - before)
"""


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    """Seen by the system, in a process that has done nothing else; a sound image shows that it is seen."""
    here = Path(__file__).resolve()
    paths = os.pathsep.join([str(here.parents[2]), str(here.parent)])
    for name, side in (("small.png", 16), ("large.png", 3000)):
        Image.new("RGB", (side, side)).save(tmp_path / name)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small.png"), str(tmp_path / "large.png")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": paths}
    )
    bombs, large = map(int, done.stdout.split())
    assert bombs < 10_000  # KiB
    assert large > 3000 * 3000 * 3 / 1024


@pytest.mark.parametrize(("width", "height"), [(MOST_SIDE, 1), (1, MOST_SIDE), (8000, MOST_PIXELS // 8000)])
def test_the_limits_themselves_are_allowed(width: int, height: int) -> None:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    assert decode(buffer.getvalue()).pixels.shape == (height, width, 3)
    buffer = io.BytesIO()
    Image.new("1", (width + 1, height)).save(buffer, "PNG")
    if width + 1 > MOST_SIDE or (width + 1) * height > MOST_PIXELS:
        with pytest.raises(UnreadableImageError, match=DECLARED):
            decode(buffer.getvalue())


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n",
        b"8BPS\0\1" + bytes(100),
        b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x4a\0\0\0\x16\0\0\0" + png(16, 16),
    ],
    ids=["EPS", "PSD", "ICO"],
)
def test_other_kinds_are_not_even_tried(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would start Ghostscript for an EPS file, whatever the file is called."""

    def starting(*_: object, **__: object) -> None:
        raise AssertionError("a program was about to be started")

    monkeypatch.setattr(subprocess, "Popen", starting)
    monkeypatch.setattr(subprocess, "check_call", starting)
    with pytest.raises(UnreadableImageError, match="no image file of a known kind"):
        decode(data)


def test_preprocessing_names_the_file_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    records = []
    for number, kind in enumerate(["sound", *BOMBS]):
        name = f"{number:02}.jpg"  # the name's ending decides nothing
        if kind == "sound":
            Image.new("RGB", (20, 40), (10, 20, 30)).save(folder / name, "PNG")
        else:
            (folder / name).write_bytes(BOMBS[kind])
        records.append(Record(name, number, 1, "visible", "train"))
    entries, odd = write_array(tmp_path / "a.npy", records, source=folder, height=4, width=2, progress=False)
    assert [entry.record.path for entry in entries] == ["00.jpg"]
    np.testing.assert_array_equal(open_array(tmp_path / "a.npy"), np.full((1, 4, 2, 3), (10, 20, 30)))
    assert [(record.path, outcome.readable) for record, outcome in odd] == [
        (record.path, False) for record in records[1:]
    ]
    assert all("pixels" in outcome.note for _, outcome in odd)


def test_files_beyond_all_measure_and_files_that_are_none(tmp_path: Path) -> None:
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(MOST_FILE_BYTES + 1)
    os.mkfifo(tmp_path / "pipe.jpg")  # reading it would wait for ever
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "missing")
    for name, reason in {
        "large.jpg": f"more than {MOST_FILE_BYTES} bytes",
        "pipe.jpg": "no plain file",
        "zero.jpg": "no plain file",
        "nowhere.jpg": "No such file",
    }.items():
        with pytest.raises(UnreadableImageError, match=reason):
            read_image(tmp_path / name, height=4, width=2)
        with pytest.raises(UnreadableFileError, match=reason):
            FolderSource(tmp_path).read(name)
