"""Indexes next to the exact search."""

from pathlib import Path

import numpy as np
import pytest
from small_galleries import rows_of

from msclnet.errors import UserError
from msclnet.gallery.index import FEWEST, TOP, build_index, index_info
from msclnet.gallery.schema import GalleryModel
from msclnet.gallery.store import Gallery

WIDTH = 32
COUNT = FEWEST + 1000


def rows(count: int, seed: int):
    """300 people with about 20 images each."""
    people = np.random.default_rng(0).normal(size=(300, WIDTH))
    generator = np.random.default_rng(seed)
    vectors = people[generator.integers(0, 300, count)] + 0.4 * generator.normal(size=(count, WIDTH))
    return rows_of(
        vectors,
        path=[f"/{seed}/{number}.png" for number in range(count)],
        camera=[f"c{number % 20}" for number in range(count)],
        modality=["visible" if number % 2 else "infrared" for number in range(count)],
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    gallery = Gallery.create(
        tmp_path_factory.mktemp("index") / "yard", GalleryModel("d", "m", 32, 16, dimensions=WIDTH)
    )
    gallery.add(rows(COUNT, seed=1))
    return gallery


def answers(gallery: Gallery, *, exact: bool, **filters) -> list[set[str]]:
    queries = np.random.default_rng(9).normal(size=(8, WIDTH))
    return [
        {match.id for match in gallery.search(query, top=TOP, exact=exact, **filters)} for query in queries
    ]


@pytest.mark.parametrize(("largest_exact", "least"), [(2**30, 1.0), (0, 0.95)])
def test_an_index_finds_what_the_exact_search_finds(made: Gallery, largest_exact: int, least: float) -> None:
    build_index(made, largest_exact=largest_exact)
    for filters in ({}, {"cameras": ["c3"]}, {"cameras": ["c3", "c4"], "modality": "infrared"}):
        wanted = answers(made, exact=True, **filters)
        found = answers(made, exact=False, **filters)
        assert np.mean([len(a & b) / TOP for a, b in zip(wanted, found, strict=True)]) >= least
        assert [len(each) for each in found] == [len(each) for each in wanted]
    info = index_info(made)
    assert info is not None
    assert (info.rows, info.rows_outside, info.queries) == (COUNT, 0, 200)
    assert info.recall >= least


def test_what_is_added_and_removed_later_is_searched_right(made: Gallery) -> None:
    build_index(made)
    made.add(rows(500, seed=2))
    removed = made.remove("camera = 'c7' AND path LIKE '/1/%'")
    assert removed == COUNT // 20
    assert answers(made, exact=False) == answers(made, exact=True)
    made.optimize()
    info = index_info(made)
    assert info is not None
    assert (info.rows, info.rows_outside) == (COUNT + 500 - removed, 0)
    assert answers(made, exact=False) == answers(made, exact=True)


def test_a_small_gallery_needs_none(tmp_path: Path) -> None:
    gallery = Gallery.create(tmp_path / "yard", GalleryModel("d", "m", 32, 16, dimensions=WIDTH))
    gallery.add(rows(10, seed=1))
    assert index_info(gallery) is None
    with pytest.raises(UserError, match=rf"yard: 10 images; below {FEWEST}"):
        build_index(gallery)
