"""RegDB's ten splits as a grid, with made-up reports of each cell; test_real_data_sets.py has one with real stages."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_grid
import tiny_project

from msclnet.errors import UserError
from pipelines.experiments import run as runner
from pipelines.experiments.grid import load_grid
from pipelines.experiments.plan import make_plan
from pipelines.experiments.record import setting
from pipelines.experiments.run import Conclusion, run_grid
from pipelines.stages.scoring import METRICS

ROOT = Path(__file__).resolve().parents[2]
DIRECTIONS = {"visible-to-infrared": 30.0, "infrared-to-visible": 20.0}


def figure(split: int, direction: str, metric: str) -> float:
    """In percent."""
    return DIRECTIONS[direction] + METRICS.index(metric) + 0.3 * split * split


def reports(split: int) -> list[dict[str, Any]]:
    """results/metrics/report.json of a split."""
    labels = {"dataset": "regdb", "mode": None, "shots": None, "sampler": None, "trials": 1, "flip": False}
    labels |= {"feature": "bnneck", "re_ranking": False, "split": split}
    labels |= {"embedding": {"backend": "torch", "precision": "fp32"}}
    figures = {
        direction: {
            metric: {"mean": figure(split, direction, metric) / 100, "std": 0.0} for metric in METRICS
        }
        for direction in DIRECTIONS
    }
    return [{**labels, **figures[direction], "direction": direction} for direction in DIRECTIONS]


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


def test_the_mean_over_the_splits_is_a_row_and_two_files(root: Path, cells: Cells) -> None:
    conclusion = run(root)

    assert cells.ran == [1, 2, 3]
    found = summary(root)
    assert (found["splits"], found["failed"], found["data_differences"]) == ([1, 2, 3], {}, 4)
    assert found["experiments"]["2"]["name"] == "regdb-split-2-s0"
    # 0.3 * (1, 4, 9) has the mean 1.4 and the sample deviation 1.21; mAP is the fifth of the metrics.
    assert found["results"][0]["mAP"]["per_split"] == pytest.approx([34.3, 35.2, 36.7])
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
    assert list(map(str, conclusion.written)) == ["results/regdb/regdb.json", "results/regdb/regdb.md"]
    text = (root / "results/regdb/regdb.md").read_text()
    assert "| mean | 31.40 | 35.40 | 21.40 | 25.40 | over 3 of 10 splits |" in text
    assert "| deviation | 1.21 | 1.21 | 1.21 | 1.21 | over 3 of 10 splits |" in text


def test_only_what_failed_runs_again_and_earlier_splits_count(root: Path, cells: Cells) -> None:
    cells.wrong = {1: UserError("a list without a file"), 3: UserError("a list without a file")}
    conclusion = run(root)
    assert conclusion.repairable
    assert conclusion.failure == (
        "2 of 3 cells failed; started again, only they run\n"
        "split-1, seed 0; split-3, seed 0: a list without a file"
    )
    assert summary(root)["splits"] == [2]
    assert summary(root)["failed"] == dict.fromkeys(("split-1", "split-3"), "a list without a file")
    assert [result["rank1"]["std"] for result in summary(root)["results"]] == [None] * 2

    cells.wrong = {3: RuntimeError("a crash")}
    assert not run(root).repairable
    cells.wrong = {}
    conclusion = run(root, 3)  # split 1 and 2 count as well, though nobody asks for them
    assert cells.ran == [1, 2, 3, 1, 3, 3]
    assert conclusion.failure == ""
    names = ["split-1", "split-2", "split-3", "mean over 3 of 3 rows"]
    assert [row["row"] for row in conclusion.rows] == names
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
