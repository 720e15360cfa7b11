"""The rehearsal's pictures are of SYSU-MM01's kind, and its archive is read as SYSU-MM01 is."""

import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rehearsal_files import EXPECTED, GROUPS

from benchmarks.sysu_mm01 import draw, full_listing, write_archive
from msclnet.datasets.archive import open_source
from msclnet.datasets.catalogue import data_set, verify
from msclnet.datasets.records import Choice


@pytest.mark.parametrize("camera", range(1, 7))
def test_pictures_are_of_the_data_sets_size_and_weight(camera: int) -> None:
    files = [draw(identity=identity, camera=camera, number=1) for identity in range(1, 31)]
    for data in files:
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert 100 <= image.width <= 200
            assert 250 <= image.height <= 500
            pixels = np.asarray(image).astype(int)
        assert 20 <= len(data) / 1024 <= 30
        spread = float(np.ptp(pixels, axis=2).mean())
        assert (spread < 1) == (camera in (3, 6))
    assert len({Image.open(io.BytesIO(data)).size for data in files}) > 15


def test_every_picture_has_pixels_of_its_own() -> None:
    files = [
        draw(identity=i, camera=camera, number=n) for i in (7, 8) for camera in (1, 3) for n in range(1, 6)
    ]
    assert len({np.asarray(Image.open(io.BytesIO(data))).tobytes() for data in files}) == len(files)
    assert draw(identity=7, camera=1, number=1) == files[0]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "SYSU-MM01.zip"
    write_archive(path, full_listing(GROUPS), workers=1)
    return path


def test_the_archive_is_read_as_sysu_mm01(archive: Path) -> None:
    dataset = data_set("sysu-mm01")
    records = dataset.list_records(open_source(archive), Choice(validation=False))
    assert Counter((record.split, record.modality) for record in records) == EXPECTED.images
    counts = verify(open_source(archive), dataset).counts
    found = {count.camera: (count.identities, count.images) for count in counts if count.part == "test"}
    assert found == EXPECTED.test_cameras


def test_the_archive_holds_pictures_of_people_in_no_list(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.endswith(".jpg")]
        listed = opened.read("SYSU-MM01/exp/available_id.txt").decode().split(",")
    others = [name for name in names if str(int(name.split("/")[2])) not in listed]
    assert len(names) == sum(EXPECTED.images.values()) + 5
    assert len(others) == 5


def test_the_archive_does_not_depend_on_the_number_of_processes(archive: Path, tmp_path: Path) -> None:
    write_archive(tmp_path / "other.zip", full_listing(GROUPS), workers=2)
    assert (tmp_path / "other.zip").read_bytes() == archive.read_bytes()
