import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from pipelines.experiments.statistics import (
    grid_rows,
    headline,
    mean_over_rows,
    paired_difference,
    spread,
)


def test_mean_and_sample_deviation() -> None:
    found = spread([2.0, 4.0, 9.0])
    assert (found.mean, found.n) == (5.0, 3)
    assert found.std == pytest.approx(math.sqrt((9 + 1 + 16) / 2))
    assert spread([3.5]) == type(found)(3.5, None, 1)
    assert (str(found), str(spread([3.5]))) == ("5.00 ± 3.61", "3.50")


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_interval_is_that_of_the_paired_t_test(n: int, alpha: float) -> None:
    rng = np.random.default_rng(n)
    row, base = rng.normal(50, 5, n), rng.normal(45, 5, n)
    found = paired_difference(dict(enumerate(row)), dict(enumerate(base)), alpha=alpha)
    expected = ttest_rel(row, base).confidence_interval(1 - alpha)

    assert found is not None
    assert found.mean == pytest.approx(np.mean(row) - np.mean(base))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.seeds == tuple(range(n))


def test_the_interval_by_hand() -> None:
    # differences 1, 2, 3: mean 2, deviation 1, and t(0.975, 2) = 4.302653 from the tables
    found = paired_difference({0: 11.0, 1: 22.0, 2: 33.0}, {0: 10.0, 1: 20.0, 2: 30.0})
    assert found is not None
    assert (found.low, found.high) == pytest.approx(
        (2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3))
    )
    assert not found.clear
    assert str(found) == "+2.00 [-0.48, +4.48]"


def test_only_seeds_that_both_have_are_compared() -> None:
    found = paired_difference({0: 1.0, 2: 5.0, 3: 9.0}, {2: 4.0, 3: 7.0, 4: 0.0})
    assert found is not None
    assert found.seeds == (2, 3)
    assert found.mean == 1.5
    single = paired_difference({0: 1.0, 2: 5.0}, {2: 4.0})
    assert single is not None
    assert (single.mean, single.low, single.high, single.clear) == (1.0, None, None, False)
    assert str(single) == "+1.00 (one seed)"
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def record(row: str, seed: int, rank1: float) -> dict:
    means = {"mean": {"rank1": rank1, "mAP": rank1 / 2}, "std": {}, "random": {"rank1": 1.0}}
    test = {"all-1shot-agw": means, "indoor-1shot-agw": {"mean": {"rank1": 99.0, "mAP": 99.0}}}
    return {
        "row": row,
        "seed": seed,
        "score": "test",
        "figures": {"validation": {"score": 1.0}, "test": test},
    }


def test_rows_over_seeds_against_the_baseline() -> None:
    diverged = {"row": "C", "seed": 1, "score": "test", "figures": {}, "diverged": "training stopped"}
    records = [
        record("B", 0, 20.0),
        record("B", 1, 22.0),
        record("A", 1, 30.0),
        record("A", 0, 26.0),
        diverged,
    ]
    base, better, gone, missing = grid_rows(records, ["B", "A", "C", "D"], baseline="B")

    assert base.seeds == (0, 1)
    assert base.differences == {}
    assert better.spreads["Rank-1"].mean == 28.0
    assert better.spreads["mAP"].std == pytest.approx(math.sqrt(2))
    assert better.differences["Rank-1"].mean == 7.0  # (26 - 20 + 30 - 22) / 2
    assert list(better.texts()) == ["Rank-1", "mAP", "Rank-1 - baseline", "mAP - baseline"]
    assert (gone.seeds, gone.diverged, gone.spreads) == ((), (1,), {})
    assert (missing.seeds, missing.diverged, missing.texts()) == ((), (), {})


def test_the_headline_under_either_score() -> None:
    assert headline(record("B", 0, 20.0)) == {"Rank-1": 20.0, "mAP": 10.0}
    validation = {"score": 30.0, "i2v_rank1": 31.0, "i2v_mAP": 29.0, "v2i_rank1": 28.0, "v2i_mAP": 32.0}
    found = headline({"score": "validation", "figures": {"validation": validation}})
    assert found == {"score": 30.0, "I-V Rank-1": 31.0, "V-I Rank-1": 28.0}
    both = {
        "visible-to-infrared": {"mean": {"rank1": 5.0, "mAP": 4.0}},
        "visible-to-infrared-reranked": {"mean": {"rank1": 9.0, "mAP": 9.0}},
        "infrared-to-visible": {"mean": {"rank1": 3.0, "mAP": 2.0}},
        "conditions": "regdb, split 1",
    }
    assert headline({"score": "test", "figures": {"test": both}}) == {
        "V-I Rank-1": 5.0,
        "V-I mAP": 4.0,
        "I-V Rank-1": 3.0,
        "I-V mAP": 2.0,
    }


def test_the_mean_over_rows_is_that_of_each_rows_mean_over_its_seeds() -> None:
    diverged = {"row": "C", "seed": 0, "score": "test", "figures": {}, "diverged": "training stopped"}
    records = [record("A", 0, 20.0), record("A", 1, 24.0), record("B", 0, 30.0), diverged]
    found = mean_over_rows(records, ["A", "B", "C"])
    assert found.name == "mean over 2 of 3 rows"
    assert found.spreads["Rank-1"] == spread([22.0, 30.0])
    assert found.spreads["mAP"] == spread([11.0, 15.0])
    assert mean_over_rows([], ["A"]).spreads == {}
    assert grid_rows(records, ["A"], baseline=None)[0].differences == {}
