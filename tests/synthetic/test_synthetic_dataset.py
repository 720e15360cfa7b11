"""The archive: SYSU-MM01's layout, whole or not there, and the same bytes whoever renders it."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msclnet.datasets.records import Split
from msclnet.synthetic import dataset
from msclnet.synthetic.dataset import write_dataset
from msclnet.synthetic.layout import ImageCounts, plan

SEED = 11
IDENTITIES: dict[Split, int] = {"train": 3, "val": 2, "test": 3}
IMAGES = ImageCounts(train=2, val=1, test=1, test_many=3, many_share=0.34, absent=0.2)


def write(target: Path, *, workers: int, seed: int = SEED) -> Path:
    write_dataset(target, seed=seed, identities=IDENTITIES, images=IMAGES, workers=workers, progress=False)
    return target


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("synthetic") / "made" / "images.zip", workers=1)


def test_members_are_exactly_the_planned_ones(archive: Path) -> None:
    expected = {f"exp/{name}_id.txt" for name in ("train", "val", "test", "available")}
    for one in plan(seed=SEED, identities=IDENTITIES, images=IMAGES):
        for camera, count in one.counts.items():
            expected |= {f"cam{camera}/{one.identity:04d}/{number:04d}.jpg" for number in range(1, count + 1)}
    with zipfile.ZipFile(archive) as opened:
        names, members = opened.namelist(), opened.infolist()
        assert opened.testzip() is None
    assert {(m.compress_type, m.date_time) for m in members} == {(zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))}
    assert len(names) == len(set(names))
    assert set(names) == expected


def test_identity_lists_split_all_identities(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        lists = {}
        for name in ("train", "val", "test", "available"):
            text = opened.read(f"exp/{name}_id.txt").decode()
            assert text.count("\n") == 1
            lists[name] = [int(number) for number in text.split(",")]
        folders = {int(name.split("/")[1]) for name in opened.namelist() if name.startswith("cam")}
    assert {name: len(lists[name]) for name in IDENTITIES} == IDENTITIES
    assert sorted(lists["train"] + lists["val"] + lists["test"]) == lists["available"] == sorted(folders)


def test_pictures_open_and_have_their_cameras_colours(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            if not name.startswith("cam"):
                continue
            with Image.open(io.BytesIO(opened.read(name))) as picture:
                assert (picture.format, picture.mode) == ("JPEG", "RGB")
                width, height = picture.size
                pixels = np.asarray(picture).astype(int)
            assert 240 <= height <= 340
            assert 0.4 <= width / height <= 0.6
            assert pixels.std() > 10
            colourfulness = (pixels.max(axis=2) - pixels.min(axis=2)).mean()
            if name.startswith(("cam3", "cam6")):
                assert colourfulness == 0
            else:
                assert colourfulness > 5


def test_same_bytes_from_any_number_of_workers_and_others_from_another_seed(
    archive: Path, tmp_path: Path
) -> None:
    assert write(tmp_path / "two.zip", workers=2).read_bytes() == archive.read_bytes()
    assert write(tmp_path / "other.zip", workers=1, seed=SEED + 1).read_bytes() != archive.read_bytes()


def test_a_failure_leaves_the_former_archive_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "images.zip"
    target.write_bytes(b"former")

    def fail(**_: int) -> np.ndarray:
        raise OSError("no space left")

    monkeypatch.setattr(dataset, "render_person", fail)
    with pytest.raises(OSError, match="no space left"):
        write(target, workers=1)
    assert target.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [target]
