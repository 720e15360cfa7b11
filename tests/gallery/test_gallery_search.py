"""A search against a brute force by numpy: ties, deletions, filters that leave fewer than wanted."""

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_galleries import DESCRIPTION, day, rows_of

from msclnet.errors import UserError
from msclnet.gallery.schema import GalleryModel
from msclnet.gallery.store import FRESH, Gallery
from msclnet.retrieval.calibration import Calibration, LogisticFit

WIDTH = 8
CAMERAS = ("c1", "c2", 'it\'s "c"', None)
MODEL = GalleryModel("d", "m", 32, 16, dimensions=WIDTH)

image = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 9),  # equal seeds give equal vectors
        "camera": st.sampled_from(CAMERAS),
        "day": st.one_of(st.none(), st.integers(1, 20)),
        "modality": st.sampled_from(["visible", "infrared"]),
    }
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "cameras": st.lists(st.sampled_from(CAMERAS[:3]), max_size=2),
        "modality": st.sampled_from(["visible", "infrared", None]),
        "after": st.integers(1, 20).map(day),
        "before": st.integers(1, 20).map(day),
    },
)


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=WIDTH)


@settings(max_examples=25, deadline=None)
@given(st.lists(image, min_size=1, max_size=30), filters, st.integers(1, 12), st.integers(0, 9), st.data())
def test_a_search_is_the_brute_force_over_the_fitting_images(
    images: list[dict], chosen: dict, top: int, seed: int, data: st.DataObject
) -> None:
    rows = rows_of(
        np.stack([vector(each["seed"]) for each in images]),
        camera=[each["camera"] for each in images],
        time=[None if each["day"] is None else day(each["day"]) for each in images],
        modality=[each["modality"] for each in images],
    )
    removed = data.draw(st.sets(st.sampled_from(range(len(images))), max_size=len(images) - 1))
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery.create(f"{folder}/g", MODEL)
        gallery.add(rows)
        ids = rows["id"].to_pylist()
        if removed:
            assert gallery.remove(f"id IN ({', '.join(repr(ids[each]) for each in removed)})") == len(removed)
        query = vector(seed) + 0.1 * vector(99)
        found = gallery.search(query, top=top, **chosen)

    stored = np.array(rows["vector"].to_pylist(), np.float64)
    similarities = stored @ (query / np.linalg.norm(query))
    fitting = [
        number
        for number, each in enumerate(images)
        if number not in removed
        and (not chosen.get("cameras") or each["camera"] in chosen["cameras"])
        and chosen.get("modality") in (None, each["modality"])
        and ("after" not in chosen or (each["day"] is not None and day(each["day"]) >= chosen["after"]))
        and ("before" not in chosen or (each["day"] is not None and day(each["day"]) <= chosen["before"]))
    ]
    expected = sorted((-similarities[number], ids[number]) for number in fitting)[:top]
    assert len(found) == len(expected)
    # Images with equal vectors may take each other's place at the end of the list, never a less similar one.
    np.testing.assert_allclose(
        [match.similarity for match in found], [-value for value, _ in expected], atol=2e-3
    )
    by_id = dict(zip(ids, range(len(ids)), strict=True))
    assert len({match.id for match in found}) == len(found)
    for match in found:
        number = by_id[match.id]
        assert number in fitting
        assert match.similarity == pytest.approx(similarities[number], abs=2e-3)
        assert (match.camera, match.modality) == (images[number]["camera"], images[number]["modality"])
    assert [(-match.similarity, match.id) for match in found] == sorted(
        (-match.similarity, match.id) for match in found
    )


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """Three images with a floor, a column of the user's own."""
    made = Gallery.create(tmp_path / "g", MODEL, others=[pa.field("floor", pa.int64())])
    rows = rows_of(
        np.stack([vector(number) for number in range(3)]), modality=["visible", "infrared", "visible"]
    )
    made.add(rows.append_column("floor", pa.array([1, 2, None], pa.int64())))
    return made


def test_a_condition_on_the_users_own_column(gallery: Gallery) -> None:
    (found,) = gallery.search(vector(0), top=5, where="floor = 2")
    assert (found.others, found.path) == ({"floor": 2}, "/images/1.png")
    assert {match.others["floor"] for match in gallery.search(vector(0), top=5)} == {1, 2, None}


@pytest.mark.parametrize("where", ["storey = 2", "floor ==== 2"])
def test_a_wrong_condition_is_named(gallery: Gallery, where: str) -> None:
    with pytest.raises(UserError) as caught:
        gallery.search(vector(0), top=5, where=where, cameras=["c1"])
    assert where in str(caught.value)
    assert "floor" in str(caught.value)
    assert ".rs:" not in str(caught.value)


def test_probabilities_are_those_of_the_kind_of_pair(tmp_path: Path) -> None:
    fit = {"prevalence": 0.1, "identities": 9, "pairs": 99, "reliability": (), "top_reliability": ()}
    cross, within = LogisticFit(10.0, -5.0, **fit), LogisticFit(4.0, -3.0, **fit)
    calibration = Calibration("synthetic", False, "d", {"cross-modal": cross, "visible": within})
    model = GalleryModel("d", "m", 32, 16, dimensions=WIDTH, calibration=calibration.to_json())
    made = Gallery.create(tmp_path / "g", model)
    made.add(rows_of(np.stack([vector(0), vector(1)]), modality=["visible", "infrared"]))
    reopened = Gallery.open(tmp_path / "g")
    curves_of = {
        "infrared": {"visible": cross, "infrared": None},
        "visible": {"visible": within, "infrared": cross},
    }
    for query, curves in curves_of.items():
        for match in reopened.search(vector(2), top=2, query_modality=query):
            curve = curves[match.modality]
            if curve is None:
                assert match.probability is None
            else:
                expected = 1 / (1 + np.exp(-(curve.slope * match.similarity + curve.intercept)))
                assert match.probability == pytest.approx(expected)
    assert {match.probability for match in reopened.search(vector(2), top=2)} == {None}


def test_an_open_gallery_sees_what_was_written_elsewhere(gallery: Gallery) -> None:
    other = Gallery.open(gallery.address)
    assert len(other) == 3
    gallery.remove("floor = 1")
    time.sleep(FRESH.total_seconds())
    assert len(other) == 2
    assert len(other.search(vector(0), top=5)) == 2


def test_an_empty_gallery_has_no_matches(tmp_path: Path) -> None:
    assert Gallery.create(tmp_path / "g", DESCRIPTION).search(np.ones(25), top=3, cameras=["c1"]) == []
