"""Another model: the table beside, the swap, interruptions, and what is kept."""

from pathlib import Path

import numpy as np
import pytest
from small_galleries import (
    DESCRIPTION,
    MODEL,
    OTHER,
    OTHER_DESCRIPTION,
    add,
    other_pixels,
    photo,
    photos,
)

from msclnet.gallery.rebuilding import rebuild
from msclnet.gallery.store import Gallery
from msclnet.images.user_files import SearchModel


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    made = Gallery.create(tmp_path / "yard", DESCRIPTION)
    photos(tmp_path / "images", 8)
    add(made, tmp_path / "images")
    return made


def rows(gallery: Gallery, *without: str) -> dict[str, dict]:
    columns = [name for name in gallery.schema.names if name not in without]
    return {row["id"]: row for batch in gallery.batches([*columns]) for row in batch.to_pylist()}


def test_a_rebuilt_gallery_is_one_made_with_the_other_model(gallery: Gallery, tmp_path: Path) -> None:
    before = rows(gallery, "vector")
    gallery.marks.set("q" * 64, next(iter(before)), True)
    rebuilt = rebuild(gallery, OTHER, OTHER_DESCRIPTION, threads=2)
    assert (rebuilt.images, rebuilt.from_crops) == (8, 0)
    opened = Gallery.open(gallery.address)
    assert opened.model == gallery.model == OTHER_DESCRIPTION
    fresh = Gallery.create(tmp_path / "fresh", OTHER_DESCRIPTION)
    add(fresh, tmp_path / "images", OTHER)
    assert rows(opened) == rows(fresh)
    assert rows(opened, "vector") == before
    assert [mark.image for mark in opened.marks.all()] == [next(iter(before))]
    assert len(add(opened, tmp_path / "images", OTHER).refused) == 0
    assert len(opened) == 8


def test_the_change_of_the_answers_is_counted(gallery: Gallery, tmp_path: Path) -> None:
    same = rebuild(gallery, MODEL, DESCRIPTION, threads=1).change
    assert (same.queries, same.new_in_top, same.other_first) == (8, 0, 0)
    first = {}
    for model, description in ((MODEL, DESCRIPTION), (OTHER, OTHER_DESCRIPTION)):
        single = Gallery.create(tmp_path / description.address, description)
        add(single, tmp_path / "images", model)
        for id, row in rows(single).items():
            other = "infrared" if row["modality"] == "visible" else "visible"
            first[description.address, id] = single.search(np.array(row["vector"]), top=1, modality=other)[
                0
            ].id
    different = [first["coarse", id] != first["other", id] for id in rows(gallery)]
    change = rebuild(gallery, OTHER, OTHER_DESCRIPTION, threads=1).change
    assert change.other_first == pytest.approx(np.mean(different))
    assert change.new_in_top == 0  # fewer than ten of either modality: all are in the top ten


def test_files_that_are_gone_or_changed_are_embedded_from_their_crops(
    gallery: Gallery, tmp_path: Path
) -> None:
    files = sorted((tmp_path / "images").iterdir())
    files[0].unlink()
    photo(files[1], seed=99)
    before = rows(gallery, "vector")
    rebuilt = rebuild(gallery, OTHER, OTHER_DESCRIPTION, threads=2)
    assert (rebuilt.images, rebuilt.from_crops) == (8, 2)
    assert rows(gallery, "vector") == before


def test_searches_see_the_old_table_until_the_new_one_is_whole_and_a_rebuild_goes_on(
    gallery: Gallery,
) -> None:
    embedded: list[int] = []

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        assert len(reader.search(np.ones(25), top=20)) == 8
        if sum(embedded) == 4:
            embedded.append(0)
            raise KeyboardInterrupt
        embedded.append(len(images))
        return other_pixels(images, infrared)

    reader = Gallery.open(gallery.address)
    model = SearchModel(embed, 32, 16, {}, digest=OTHER.digest)
    with pytest.raises(KeyboardInterrupt):
        rebuild(gallery, model, OTHER_DESCRIPTION, threads=1, batch=2)
    assert Gallery.open(gallery.address).model == DESCRIPTION
    embedded.append(1)  # no second interruption
    assert rebuild(gallery, model, OTHER_DESCRIPTION, threads=1, batch=2).images == 4
    assert Gallery.open(gallery.address).model == OTHER_DESCRIPTION
    assert len(Gallery.open(gallery.address)) == 8


def test_a_rebuild_of_a_gallery_that_has_changed_since_begins_again(gallery: Gallery, tmp_path: Path) -> None:
    first = True

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        nonlocal first
        if not first:
            raise KeyboardInterrupt
        first = False
        return other_pixels(images, infrared)

    with pytest.raises(KeyboardInterrupt):
        rebuild(gallery, SearchModel(embed, 32, 16, {}), OTHER_DESCRIPTION, threads=1, batch=4)
    removed = gallery.remove("camera = 'c0'")
    assert rebuild(gallery, OTHER, OTHER_DESCRIPTION, threads=1).images == 8 - removed
    assert len(gallery) == 8 - removed
