"""RegDB's ten splits as a grid: what their mean is made of. The cells run in this process, without DVC."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_grid
import tiny_project

from msclnet.errors import UserError
from pipelines.experiments import run as runner
from pipelines.experiments.grid import load_grid
from pipelines.experiments.plan import make_plan
from pipelines.experiments.record import setting
from pipelines.experiments.run import Conclusion, run_grid
from pipelines.experiments.splits import METRICS

ROOT = Path(__file__).resolve().parents[2]
DIRECTIONS = {"visible-to-infrared": 30.0, "infrared-to-visible": 20.0}
FEATURES = (("bnneck", False), ("bnneck", {"k1": 20, "k2": 6, "lambda": 0.3}), ("pooled", False))


def figure(split: int, direction: str, metric: str) -> float:
    """In percent."""
    return DIRECTIONS[direction] + METRICS.index(metric) + 0.3 * split * split


def reports(split: int) -> list[dict[str, Any]]:
    """results/metrics/report.json of a split."""
    labels = {"dataset": "regdb", "mode": None, "shots": None, "sampler": None, "trials": 1, "flip": False}
    embedding = {"backend": "torch", "precision": "fp32"}
    return [
        {
            **labels,
            **{metric: {"mean": figure(split, direction, metric) / 100, "std": 0.0} for metric in METRICS},
            "direction": direction,
            "feature": feature,
            "re_ranking": re_ranking,
            "embedding": embedding,
            "split": split,
        }
        for direction in DIRECTIONS
        for feature, re_ranking in FEATURES
    ]


class Cells:
    """Stands in for DVC: notes which splits run, and gives their records."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[int] = []
        self.wrong: dict[int, Exception] = {}
        self.changes: dict[str, Any] = {}
        monkeypatch.setattr(runner, "run_experiment", self.run)
        monkeypatch.setattr(runner, "record_of", self.record)

    def run(self, root: Path, experiment: Any, **how: Any) -> int:
        split = experiment.overrides["preprocess.regdb_split"]
        self.ran.append(split)
        if split in self.wrong:
            raise self.wrong[split]
        return split

    def record(self, root: Path, planned: Any, split: int) -> dict[str, Any]:
        test = {
            direction: {"mean": {metric: figure(split, direction, metric) for metric in ("rank1", "mAP")}}
            for direction in DIRECTIONS
        }
        return {
            **setting(planned),
            "experiment": {"name": planned.cell.name, "commit": "0" * 40},
            "data": {"data/raw/images.zip": "raw", "data/processed/manifest.csv": f"split {split}"},
            "data_differences": 4,
            "figures": {"validation": {}, "test": {**test, "conditions": "regdb"}},
            "reports": reports(split),
            **self.changes,
        }


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return tiny_grid.setup(tmp_path, monkeypatch)[0]


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Cells:
    return Cells(monkeypatch)


def run(root: Path, *splits: int, **given: Any) -> Conclusion:
    rows = [f"split-{split}" for split in splits] or None
    return run_grid(root, make_plan(root, load_grid(root, "regdb"), rows=rows, **given))


def summary(root: Path, name: str = "regdb") -> dict[str, Any]:
    return json.loads((root / "results" / "regdb" / f"{name}.json").read_text())


def test_the_summary_is_the_mean_of_every_metric_direction_and_feature(root: Path, cells: Cells) -> None:
    conclusion = run(root)

    assert cells.ran == [1, 2, 3]
    found = summary(root)
    assert (found["splits"], found["failed"], found["data_differences"]) == ([1, 2, 3], {}, 4)
    assert found["experiments"]["2"]["name"] == "regdb-split-2-s0"
    assert [(r["direction"], r["feature"], bool(r["re_ranking"])) for r in found["results"]] == [
        (direction, feature, bool(re_ranking)) for direction in DIRECTIONS for feature, re_ranking in FEATURES
    ]
    for result in found["results"]:
        assert (result["flip"], result["trials"], result["embedding"]["precision"]) == (False, 1, "fp32")
        for metric in METRICS:
            expected = [figure(split, result["direction"], metric) for split in (1, 2, 3)]
            assert result[metric]["per_split"] == pytest.approx(expected, abs=1e-9)
            assert result[metric]["mean"] == pytest.approx(np.mean(expected), abs=1e-9)
            assert result[metric]["std"] == pytest.approx(np.std(expected, ddof=1), abs=1e-9)

    # 0.3 * (1, 4, 9) has the mean 1.4 and the sample deviation 1.21; mAP is the fifth of the metrics.
    assert conclusion.rows[0]["row"] == "split-1"
    assert conclusion.rows[0]["V-I Rank-1"] == "30.30"
    assert conclusion.rows[-1] == {
        "row": "mean over 3 of 3 rows",
        "seeds": "1",
        "V-I Rank-1": "31.40 ± 1.21",
        "V-I mAP": "35.40 ± 1.21",
        "I-V Rank-1": "21.40 ± 1.21",
        "I-V mAP": "25.40 ± 1.21",
        "note": "",
    }
    assert [str(path) for path in conclusion.written] == [
        "results/regdb/regdb.json",
        "results/regdb/regdb.md",
    ]
    text = (root / "results/regdb/regdb.md").read_text()
    assert "| mean | 31.40 | 35.40 | 21.40 | 25.40 | over 3 of 10 splits |" in text
    assert "| deviation | 1.21 | 1.21 | 1.21 | 1.21 | over 3 of 10 splits |" in text


def test_only_what_failed_runs_again_and_earlier_splits_count(root: Path, cells: Cells) -> None:
    cells.wrong = {1: UserError("a list without a file"), 3: UserError("a list without a file")}
    conclusion = run(root)
    assert conclusion.mistaken
    assert conclusion.failure == (
        "2 of 3 cells failed; started again, only they run\n"
        "split-1, seed 0; split-3, seed 0: a list without a file"
    )
    assert summary(root)["splits"] == [2]
    assert summary(root)["failed"] == dict.fromkeys(("split-1", "split-3"), "a list without a file")
    assert [result["rank1"]["std"] for result in summary(root)["results"]] == [None] * 6

    cells.wrong = {3: RuntimeError("a crash")}
    assert not run(root).mistaken
    cells.wrong = {}
    conclusion = run(root, 3)  # split 1 and 2 count as well, though nobody asks for them
    assert cells.ran == [1, 2, 3, 1, 3, 3]
    assert conclusion.failure == ""
    assert [row["row"] for row in conclusion.rows] == [
        "split-1",
        "split-2",
        "split-3",
        "mean over 3 of 3 rows",
    ]
    assert (summary(root)["splits"], summary(root)["failed"]) == ([1, 2, 3], {})

    run(root, 1, overrides={"train.epochs": 3}, name="longer")
    assert summary(root, "longer")["splits"] == [1]
    assert summary(root, "longer")["overrides"] == {"train.epochs": 3}


def test_splits_of_other_images_have_no_mean(root: Path, cells: Cells) -> None:
    run(root, 1, 2)
    before = (root / "results/regdb/regdb.json").read_bytes()
    cells.changes = {"data": {"data/raw/images.zip": "repaired"}}
    conclusion = run(root, 3)
    assert "different images" in conclusion.warning
    assert [row["row"] for row in conclusion.rows] == ["split-1", "split-2", "split-3"]
    assert (root / "results/regdb/regdb.json").read_bytes() == before


def test_a_report_of_another_split_is_refused(root: Path, cells: Cells) -> None:
    cells.changes = {"reports": reports(7)}
    with pytest.raises(
        UserError, match=r"row split-1, seed 0 are of regdb, split 7, and not of regdb, split 1"
    ):
        run(root, 1)
    assert not (root / "results").exists()


def test_mistakes_are_found_before_anything_runs(root: Path, cells: Cells) -> None:
    with pytest.raises(UserError, match=r"no row 'split-11' \(did you mean 'split-1'\?\)"):
        run(root, 11)
    with pytest.raises(
        UserError, match=r"row split-1: .*download\.dataset is 'synthetic' with the preset 'smoke'"
    ):
        run(root, preset="smoke")
    assert cells.ran == []
    assert tiny_project.experiments(root) == {}


def test_the_projects_grid_has_the_ten_splits_and_a_row_sets_nothing_else() -> None:
    grid = load_grid(ROOT, "regdb")
    assert [row.overrides for row in grid.all_rows] == [{"preprocess.regdb_split": n} for n in range(1, 11)]
    assert (grid.overrides, grid.preset, grid.mean_over_rows) == ({}, "regdb", True)
