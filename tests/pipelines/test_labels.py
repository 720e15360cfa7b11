"""Every figure says what it was measured under: what its short name leaves out is told beside it."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.stages.evaluate import conditions, print_table, summary
from pipelines.stages.presets import preset_params
from pipelines.stages.scoring import processing, protocol_title

SMOKE = preset_params("smoke", Path(__file__).resolve().parents[2])
METRICS = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")
RE_RANKING = {"k1": 20, "k2": 6, "lambda": 0.3}


def report(**labels: Any) -> dict[str, Any]:
    """A report with the labels of a SYSU-MM01 one, unless told otherwise."""
    return {
        "dataset": "sysu-mm01",
        "split": None,
        "mode": "all",
        "shots": 1,
        "sampler": "agw",
        "direction": "infrared-to-visible",
        "feature": "bnneck",
        "trials": 10,
        "flip": False,
        "re_ranking": False,
        **{metric: {"mean": 0.5, "std": 0.1} for metric in METRICS},
        **labels,
    }


def test_metrics_name_all_labels() -> None:
    figures = summary([report(), report(feature="pooled")], SMOKE)
    assert list(figures) == ["all-1shot-agw", "conditions"]
    assert figures["conditions"] == (
        "sysu-mm01, infrared-to-visible, 10 trials, no mirror images, no re-ranking, feature bnneck"
    )


def test_re_ranking_and_mirror_images_are_named_where_they_were_on() -> None:
    reports = [report(flip=True), report(flip=True, re_ranking=RE_RANKING)]
    figures = summary(reports, SMOKE)
    assert list(figures) == ["all-1shot-agw", "all-1shot-agw-reranked", "conditions"]
    assert figures["conditions"].startswith(
        "sysu-mm01, infrared-to-visible, 10 trials, mirror images averaged, "
        "k-reciprocal re-ranking (k1 20, k2 6, lambda 0.3) where the name ends with reranked"
    )


def test_regdb_names_its_split_and_leaves_directions_to_the_names() -> None:
    both = [
        report(dataset="regdb", split=3, mode=None, shots=None, sampler=None, trials=1, direction=direction)
        for direction in ("visible-to-infrared", "infrared-to-visible")
    ]
    assert conditions(both) == "regdb, split 3, whole gallery, no mirror images, no re-ranking"
    assert protocol_title(both[0]) == "regdb, split 3"


def test_the_table_starts_with_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([report()])
    assert capsys.readouterr().out.startswith(
        "sysu-mm01, infrared-to-visible, 10 trials, no mirror images, no re-ranking\n"
    )


def test_what_was_off_is_said_too() -> None:
    assert processing(report()) == "no mirror images, no re-ranking"
