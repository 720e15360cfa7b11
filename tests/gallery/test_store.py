"""What a gallery is on a disk and on an object store: made, opened, refused, marked."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import lancedb
import numpy as np
import pytest
from small_galleries import DESCRIPTION, OTHER_DESCRIPTION, add, photos, rows_of

from msclnet.errors import UserError
from msclnet.gallery.schema import METADATA
from msclnet.gallery.store import Gallery, galleries, is_gallery


def random_rows(count: int, seed: int = 0):
    return rows_of(np.random.default_rng(seed).normal(size=(count, 25)))


def test_a_gallery_is_there_once_it_was_made(tmp_path: Path) -> None:
    assert (galleries(tmp_path), is_gallery(tmp_path / "yard")) == ([], False)
    assert not (tmp_path / "yard").exists()
    made = Gallery.create(tmp_path / "yard", DESCRIPTION)
    assert (galleries(tmp_path), is_gallery(tmp_path / "yard")) == (["yard"], True)
    made.add(random_rows(3))
    opened = Gallery.open(tmp_path / "yard")
    info = opened.info()
    assert (len(opened), opened.model, info.images) == (3, DESCRIPTION, 3)
    assert (info.modalities, info.cameras, info.columns, info.marks) == ({"visible": 3}, {}, [], 0)
    assert info.bytes == sum(file.stat().st_size for file in (tmp_path / "yard").rglob("*") if file.is_file())
    assert abs((datetime.now().astimezone() - datetime.fromisoformat(info.created)).total_seconds()) < 600
    with pytest.raises(UserError, match=r"yard: there is a gallery already"):
        Gallery.create(tmp_path / "yard", DESCRIPTION)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_row_of_the_same_path_is_replaced(tmp_path: Path, rows: int) -> None:
    gallery = Gallery.create(tmp_path / "yard", DESCRIPTION)
    gallery.add(random_rows(2))
    before = gallery.version
    gallery.add(random_rows(rows, seed=1))
    assert len(gallery) == 2
    assert gallery.version != before
    expected = np.array(random_rows(rows, seed=1)["vector"][0].as_py(), np.float16)
    np.testing.assert_array_equal(gallery.vector(random_rows(1)["id"][0].as_py()), expected)


def test_what_is_not_there_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: there is no such gallery; `msclnet gallery add`"):
        Gallery.open(tmp_path / "nowhere")
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match=r"photos is no gallery.*`msclnet gallery add`"):
        Gallery.open(tmp_path / "photos")
    gallery = Gallery.create(tmp_path / "yard", DESCRIPTION)
    for ask in (gallery.image, gallery.vector):
        with pytest.raises(KeyError, match="it's not there"):
            ask("it's not there")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    gallery = Gallery.create(tmp_path / "yard", DESCRIPTION)
    newer = {**gallery.metadata, "format": 2}
    table = lancedb.connect(tmp_path / "yard").open_table("images")
    table.to_lance().update_schema_metadata({METADATA.decode(): json.dumps(newer)})
    with pytest.raises(UserError, match=r"(?s)yard: format 2.*up to 1.*install a newer"):
        Gallery.open(tmp_path / "yard")


def test_the_last_mark_of_a_pair_counts(tmp_path: Path) -> None:
    gallery = Gallery.create(tmp_path / "yard", DESCRIPTION)
    gallery.marks.set("a" * 64, "image 1", True)
    gallery.marks.set("a" * 64, "image 2", True)
    gallery.marks.set("a" * 64, "image 1", False, query_image=b"jpeg")
    marks = [(mark.query, mark.image, mark.same) for mark in Gallery.open(tmp_path / "yard").marks.all()]
    assert marks == [("a" * 64, "image 2", True), ("a" * 64, "image 1", False)]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An object store on this machine."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": host,
        "no_proxy": host,
    }.items():
        monkeypatch.setenv(name, value)
    import boto3

    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="people")
    yield "s3://people"
    server.stop()


def test_a_gallery_in_an_object_store_answers_as_one_in_a_folder(bucket: str, tmp_path: Path) -> None:
    photos(tmp_path / "images", 6)
    assert not is_gallery(f"{bucket}/yard")
    here = Gallery.create(tmp_path / "yard", DESCRIPTION)
    there = Gallery.create(f"{bucket}/yard", DESCRIPTION)
    assert is_gallery(f"{bucket}/yard")
    for gallery in (here, there):
        assert add(gallery, tmp_path / "images").added == 6
        assert add(gallery, tmp_path / "images").unchanged == 6
        assert gallery.remove("camera = 'c1' AND modality = 'infrared'") == 1
    replica = Gallery.open(f"{bucket}/yard")
    query = np.random.default_rng(0).normal(size=25)
    for each in (there, replica):
        assert each.search(query, top=4, modality="visible") == here.search(query, top=4, modality="visible")
    found = here.search(query, top=1)[0].id
    assert replica.image(found) == here.image(found)
    replica.marks.set("q" * 64, found, True)
    assert [mark.image for mark in there.marks.all()] == [found]
    assert there.info().bytes is None
    assert there.model != OTHER_DESCRIPTION
