"""Who appears where: exact counts, disjoint splits, absent cameras."""

from itertools import pairwise

import pytest

from msclnet.datasets.records import SPLITS, Split
from msclnet.synthetic.layout import ImageCounts, plan

VISIBLE, INFRARED = {1, 2, 4, 5}, {3, 6}
COUNTS = ImageCounts(train=5, val=3, test=4, test_many=12, many_share=0.4, absent=0.1)
IDENTITIES: dict[Split, int] = {"train": 220, "val": 40, "test": 100}


def test_splits_and_counts() -> None:
    planned = plan(seed=3, identities=IDENTITIES, images=COUNTS)
    assert [one.identity for one in planned] == list(range(1, 361))
    assert {split: sum(one.split == split for one in planned) for split in SPLITS} == IDENTITIES
    changes = sum(a.split != b.split for a, b in pairwise(planned))
    assert changes > 100  # the splits are mixed over the numbers; three blocks would give two
    by_split = {
        split: [set(one.counts.values()) for one in planned if one.split == split] for split in SPLITS
    }
    assert all(counts == {5} for counts in by_split["train"])
    assert all(counts == {3} for counts in by_split["val"])
    assert (by_split["test"].count({12}), by_split["test"].count({4})) == (40, 60)
    assert planned == plan(seed=3, identities=IDENTITIES, images=COUNTS)
    assert planned != plan(seed=4, identities=IDENTITIES, images=COUNTS)


@pytest.mark.parametrize("absent", [0.0, 0.1, 0.6, 1.0])
def test_nobody_lacks_the_cameras_that_a_protocol_needs(absent: float) -> None:
    images = ImageCounts(train=1, val=1, test=1, test_many=1, many_share=0.0, absent=absent)
    planned = plan(seed=5, identities=IDENTITIES, images=images)
    for one in planned:
        seen = set(one.counts)
        assert seen <= VISIBLE | INFRARED
        assert len(seen & VISIBLE) >= (1 if one.split == "train" else 2)
        assert len(seen & INFRARED) >= 1
        if absent == 0.0:
            assert seen == VISIBLE | INFRARED
    if absent == 1.0:
        assert all(len(one.counts) == (2 if one.split == "train" else 3) for one in planned)


def test_the_share_of_absent_cameras_is_the_parameter() -> None:
    images = ImageCounts(train=1, val=1, test=1, test_many=1, many_share=0.0, absent=0.2)
    planned = plan(seed=0, identities={"train": 3000}, images=images)
    missing = 1 - sum(len(one.counts) for one in planned) / (6 * len(planned))
    # Putting one camera of a modality back where all are missing: 0.2^4 of the visible sets, 0.2^2 of the infrared.
    expected = 0.2 - (0.2**4 + 0.2**2) / 6
    assert missing == pytest.approx(expected, abs=0.012)  # four standard deviations


@pytest.mark.parametrize("wrong", [{"train": 0}, {"test_many": -1}, {"many_share": 1.2}, {"absent": -0.1}])
def test_impossible_counts_are_refused(wrong: dict[str, float]) -> None:
    right = {"train": 5, "val": 3, "test": 4, "test_many": 12, "many_share": 0.4, "absent": 0.1}
    with pytest.raises(ValueError, match=r"between 0 and 1|at least one"):
        ImageCounts(**(right | wrong))  # type: ignore[arg-type]
