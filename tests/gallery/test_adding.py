"""What `add` does with files: new, known, touched, changed, refused, interrupted, twice at once."""

import multiprocessing
import os
import resource
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from bombs import png
from small_galleries import DESCRIPTION, MODEL, PATTERN, add, coarse_pixels, day, photo, photos

from msclnet.errors import UserError
from msclnet.gallery import adding
from msclnet.gallery.sources import folder_sources, table_sources
from msclnet.gallery.store import Gallery
from msclnet.images.user_files import SearchModel


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery.create(tmp_path / "gärten hinten" / "yard", DESCRIPTION)


def stored(gallery: Gallery) -> dict[str, dict]:
    """Rows by the file's name, without what changes with the file's time."""
    columns = [name for name in gallery.schema.names if name != "modified"]
    rows = [row for batch in gallery.batches(columns) for row in batch.to_pylist()]
    found = {Path(row["path"]).name: row for row in rows}
    assert len(found) == len(rows)
    return found


def numbers(added: adding.Added) -> tuple[int, int, int, int]:
    return added.added, added.described, added.unchanged, len(added.refused)


def test_rows_hold_what_the_file_its_name_and_the_model_say(gallery: Gallery, tmp_path: Path) -> None:
    files = photos(tmp_path / "bilder vom hof")
    assert numbers(add(gallery, tmp_path / "bilder vom hof")) == (6, 0, 0, 0)
    rows = stored(gallery)
    from PIL import Image

    for number, file in enumerate(files):
        row = rows[file.name]
        assert row["path"] == str(file)
        assert row["size"] == file.stat().st_size
        assert (row["camera"], row["identity"]) == (f"c{number % 2}", None)
        assert row["time"] == day(1 + number).replace(hour=8, minute=30)
        infrared = number % 3 == 2
        assert row["modality"] == ("infrared" if infrared else "visible")
        pixels = np.asarray(Image.open(file))
        expected = coarse_pixels(pixels[None], np.array([infrared]))[0]
        expected = (expected / np.linalg.norm(expected)).astype(np.float16)
        np.testing.assert_array_equal(np.array(row["vector"], np.float16), expected)
        assert gallery.image(row["id"]) == row["crop"]
        np.testing.assert_array_equal(gallery.vector(row["id"]), expected)


def test_known_files_are_not_read_again(gallery: Gallery, tmp_path: Path) -> None:
    files = photos(tmp_path / "images")
    add(gallery, tmp_path / "images")
    before = stored(gallery)
    version = gallery.version
    content = {file: file.read_bytes() for file in files}
    for file in files:  # would be refused if it were read
        status = file.stat()
        file.write_bytes(b"x" * status.st_size)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert numbers(add(gallery, tmp_path / "images")) == (0, 0, 6, 0)
    assert gallery.version == version
    for file, data in content.items():
        file.write_bytes(data)
    assert numbers(add(gallery, tmp_path / "images")) == (
        0,
        6,
        0,
        0,
    )  # the time has changed, the content has not
    assert numbers(add(gallery, tmp_path / "images")) == (0, 0, 6, 0)
    assert stored(gallery) == before


def test_a_changed_file_takes_its_own_place_and_keeps_what_is_known(gallery: Gallery, tmp_path: Path) -> None:
    files = photos(tmp_path / "images")
    table = tmp_path / "t.csv"
    table.write_text("path,identity\n" + "".join(f"{file.name},p{n}\n" for n, file in enumerate(files)))
    add(gallery, tmp_path / "images")
    assert numbers(add(gallery, table_sources(table, tmp_path / "images"))) == (0, 6, 0, 0)
    before = stored(gallery)
    photo(files[0], seed=77)
    assert numbers(add(gallery, tmp_path / "images")) == (1, 0, 5, 0)
    after = stored(gallery)
    name = files[0].name
    assert after[name]["id"] != before[name]["id"]
    assert (after[name]["identity"], after[name]["camera"]) == ("p0", "c0")
    assert {key: row for key, row in after.items() if key != name} == {
        key: row for key, row in before.items() if key != name
    }


def test_a_table_adds_columns_and_describes_what_is_there(gallery: Gallery, tmp_path: Path) -> None:
    files = photos(tmp_path / "images", 3)
    add(gallery, tmp_path / "images")
    embeddings = {name: row["vector"] for name, row in stored(gallery).items()}
    table = tmp_path / "sightings.csv"
    table.write_text(f"path,camera,floor,note\n{files[0].name},gate,3,\n{files[1].name},,,'seen\n")
    sources = table_sources(table, tmp_path / "images")
    assert numbers(add(gallery, sources)) == (0, 2, 0, 0)
    assert numbers(add(gallery, sources)) == (0, 0, 2, 0)
    rows = stored(gallery)
    assert [rows[file.name]["camera"] for file in files] == ["gate", "c1", "c0"]
    assert [rows[file.name]["floor"] for file in files] == [3, None, None]
    assert [rows[file.name]["note"] for file in files] == [None, "'seen", None]
    assert {name: row["vector"] for name, row in rows.items()} == embeddings
    table.write_text(f"path,floor\n{files[0].name},upper\n")
    with pytest.raises(UserError, match=r"(?s)'floor'.*int64.*string.*another name"):
        add(gallery, table_sources(table, tmp_path / "images"))


def test_the_stated_modality_decides_the_stream_and_a_contradiction_is_refused(
    gallery: Gallery, tmp_path: Path
) -> None:
    grey = photo(tmp_path / "images/grey.png", 1, colour=False)
    photo(tmp_path / "images/red.png", 2)
    for modality, name in (("visible", "grey.png"), ("infrared", "red.png")):
        added = add(gallery, folder_sources(grey.parent, given={"modality": modality}))
        (refused,) = [each for each in added.refused if each.path.name == name]
        assert modality in refused.reason
        assert "channels" in refused.reason
    assert {name: row["modality"] for name, row in stored(gallery).items()} == {
        "grey.png": "infrared",
        "red.png": "visible",
    }


def test_what_cannot_be_read_is_listed_and_the_rest_is_added(gallery: Gallery, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (good,) = photos(folder, 1)
    (folder / "c1_20261101T000000_empty.png").touch()
    (folder / "c1_20261101T000000_bomb.png").write_bytes(png(60_000, 60_000))
    (folder / "c1_20261101T000000_text.jpg").write_text("no image")
    (folder / "c1_20261399T000000_date.png").write_bytes(good.read_bytes())
    (folder / "other.png").write_bytes(good.read_bytes())
    (folder / "c1_20261101T000000_gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "c1_20261101T000000_pipe.png")
    (folder / os.fsdecode(b"c1_20261101T000000_\xff.png")).write_bytes(good.read_bytes())
    added = add(gallery, folder)
    assert (added.added, list(stored(gallery))) == (1, [good.name])
    reasons = {each.path.name: each.reason for each in added.refused}
    words = {
        "c1_20261101T000000_empty.png": "empty",
        "c1_20261101T000000_bomb.png": "too many pixels",
        "c1_20261101T000000_text.jpg": "no image file",
        "c1_20261399T000000_date.png": "time '20261399T000000'",
        "other.png": "pattern",
        "c1_20261101T000000_gone.png": "no such file",
        "c1_20261101T000000_pipe.png": "no plain file",
        os.fsdecode(b"c1_20261101T000000_\xff.png"): "UTF-8",
    }
    assert set(reasons) == set(words)
    assert [name for name, word in words.items() if word not in reasons[name]] == []


class InterruptedError(Exception):
    """In the place of Ctrl-C."""


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_an_interrupted_addition_keeps_what_it_had_and_is_completed(
    gallery: Gallery, tmp_path: Path, batches: int
) -> None:
    photos(tmp_path / "images", 8)
    calls: list[int] = []

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        if len(calls) == batches:
            raise InterruptedError
        calls.append(len(images))
        return coarse_pixels(images, infrared)

    with pytest.raises(InterruptedError):
        add(gallery, tmp_path / "images", SearchModel(embed, 32, 16, {}))
    assert len(gallery) == 2 * batches
    assert numbers(add(gallery, tmp_path / "images")) == (8 - 2 * batches, 0, 2 * batches, 0)
    whole = Gallery.create(tmp_path / "whole", DESCRIPTION)
    add(whole, tmp_path / "images")
    assert stored(gallery) == stored(whole)


def add_in_process(address: str, folder: Path) -> None:
    add(Gallery.open(address), folder)


def test_a_second_addition_waits_for_the_first(gallery: Gallery, tmp_path: Path) -> None:
    photos(tmp_path / "images", 8)
    second = multiprocessing.get_context("spawn").Process(
        target=add_in_process, args=(gallery.address, tmp_path / "images")
    )

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        if second.pid is None:
            second.start()
        return coarse_pixels(images, infrared)

    add(gallery, tmp_path / "images", SearchModel(embed, 32, 16, {}))
    version = gallery.version
    second.join(120)
    assert second.exitcode == 0
    opened = Gallery.open(gallery.address)
    assert len(stored(opened)) == 8
    assert opened.version == version


def test_a_full_disk_is_reported_and_the_addition_completed_later(gallery: Gallery, tmp_path: Path) -> None:
    photos(tmp_path / "images", 8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(UserError, match=r"(?s)yard.*make room.*same command"):
            add(gallery, tmp_path / "images", batch=8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(Gallery.open(gallery.address)) == 0
    assert numbers(add(gallery, tmp_path / "images")) == (8, 0, 0, 0)


def test_files_that_are_gone_stay_in_the_gallery(gallery: Gallery, tmp_path: Path) -> None:
    photos(tmp_path / "images", 3)
    add(gallery, tmp_path / "images")
    shutil.rmtree(tmp_path / "images")
    photos(tmp_path / "more", 2)
    assert numbers(add(gallery, tmp_path / "more")) == (2, 0, 0, 0)
    assert len(gallery) == 5
    gallery.check_model(MODEL.digest)
    with pytest.raises(UserError, match=r"(?s)c0a53e.*0ther.*gallery rebuild"):
        gallery.check_model("0ther")


def slow(sources: Iterable) -> Iterator:
    raise AssertionError("nothing is to be embedded")
    yield


def test_nothing_is_embedded_where_nothing_is_new(gallery: Gallery, tmp_path: Path) -> None:
    photos(tmp_path / "images", 2)
    add(gallery, tmp_path / "images")
    sources = folder_sources(tmp_path / "images", pattern=PATTERN)
    found = adding.compare(gallery, sources)
    assert numbers(adding.add_sources(gallery, sources, found, slow)) == (0, 0, 2, 0)
