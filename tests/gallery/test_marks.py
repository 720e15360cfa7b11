"""From marks to identities, against the groups that a naive search over the pairs finds."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msclnet.errors import UserError
from msclnet.gallery.marks import marked_identities
from msclnet.gallery.schema import Mark

NAMES = st.sampled_from("abcdefgh")


def marks_of(pairs: list[tuple[str, str]], *, same: bool = True) -> list[Mark]:
    return [Mark(one, other, same, datetime(2026, 11, 1)) for one, other in pairs]


def group(start: str, pairs: list[tuple[str, str]]) -> frozenset[str]:
    """All images that pairs lead to from one."""
    found = {start}
    for _ in pairs:
        for pair in pairs:
            if found & set(pair):
                found |= set(pair)
    return frozenset(found)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=8))
def test_images_share_an_identity_if_marks_join_them(pairs: list[tuple[str, str]]) -> None:
    found = marked_identities(marks_of(pairs), {})
    assert set(found) == {image for pair in pairs for image in pair}
    for one in found:
        assert {other for other in found if found[other] == found[one]} == group(one, pairs)


def test_another_person_has_another_identity() -> None:
    found = marked_identities(marks_of([("a", "b")]) + marks_of([("a", "c")], same=False), {})
    assert found["a"] == found["b"] != found["c"]


def test_identities_that_the_gallery_knows_are_kept() -> None:
    found = marked_identities(marks_of([("q", "b"), ("b", "c"), ("d", "e")]), {"c": "Ada"})
    assert found["q"] == found["b"] == found["c"] == "Ada"
    assert found["d"] == found["e"] != "Ada"


def test_marks_that_contradict_each_other_are_named() -> None:
    with pytest.raises(UserError, match=r"a and c .* remove"):
        marked_identities(marks_of([("a", "b"), ("b", "c")]) + marks_of([("a", "c")], same=False), {})


def test_marks_that_contradict_the_gallery_are_named() -> None:
    with pytest.raises(UserError, match=r"a and c have the identities 'Ada' and 'Bo'"):
        marked_identities(marks_of([("a", "b"), ("b", "c")]), {"a": "Ada", "c": "Bo"})


def test_no_marks_no_identities() -> None:
    assert marked_identities([], {}) == {}
