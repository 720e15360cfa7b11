"""Small files that declare enormous images are refused by what they declare, and cost no memory."""

import io
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bombs import BOMBS, png
from PIL import Image, ImageFile

from msclnet.datasets.archive import MOST_FILE_BYTES, FolderSource, UnreadableFileError
from msclnet.datasets.records import Record
from msclnet.images.decode import MOST_PIXELS, UnreadableImageError, decode
from msclnet.images.table import open_array
from msclnet.images.user_files import read_image
from msclnet.images.writer import write_array

DECLARED = f"too many pixels: at most {MOST_PIXELS} are decoded"


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_and_nothing_of_it_is_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoding(*_: object) -> None:
        raise AssertionError("a pixel was about to be decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoding)
    assert len(BOMBS[kind]) < 1000
    with pytest.raises(UnreadableImageError, match=DECLARED):
        decode(BOMBS[kind])


def test_the_limit_itself_is_allowed() -> None:
    for height, fits in ((MOST_PIXELS // 8000, True), (MOST_PIXELS // 8000 + 1, False)):
        buffer = io.BytesIO()
        Image.new("1", (8000, height)).save(buffer, "PNG")
        if fits:
            assert decode(buffer.getvalue()).pixels.shape == (height, 8000, 3)
        else:
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
    Image.new("RGB", (20, 40), (10, 20, 30)).save(
        tmp_path / "0.jpg", "PNG"
    )  # a name's ending decides nothing
    (tmp_path / "1.jpg").write_bytes(BOMBS["tiff"])
    records = [Record(f"{number}.jpg", number, 1, "visible", "train") for number in range(2)]
    entries, odd = write_array(
        tmp_path / "a.npy", records, source=tmp_path, height=4, width=2, progress=False
    )
    assert [entry.record for entry in entries] == records[:1]
    np.testing.assert_array_equal(open_array(tmp_path / "a.npy"), np.full((1, 4, 2, 3), (10, 20, 30)))
    assert [(record, outcome.readable) for record, outcome in odd] == [(records[1], False)]
    assert "pixels" in odd[0][1].note


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
