"""The records of experiments/results/: the committed ones, and how new ones are written."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from msclnet.errors import UserError
from pipelines.experiments.results import RESULTS, images_differ, read_results, recipe_of, write_result

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = sorted(path.stem for path in (ROOT / RESULTS).glob("*.jsonl"))
# Computed from the 363 files, one a cell, that held these records before: sha256 over the file's grid and all values.
VALUES = "f82572ebd44eefe092228d09937dc4ec3c929f918be77be9c8b583f16cdf1d9a"


def record(row: str, seed: int, **values: Any) -> dict[str, Any]:
    return {"row": row, "seed": seed, "score": "test", "params": {}, "figures": {}, **values}


def lines(root: Path) -> list[str]:
    return (root / RESULTS / "table.jsonl").read_text().splitlines()


def test_the_records_from_before_the_recipe_number_have_the_values_that_they_were_written_with() -> None:
    found = [(grid, each) for grid in COMMITTED for each in read_results(ROOT, grid) if "recipe" not in each]
    assert len(found) == 363
    assert {recipe_of(each) for _, each in found} == {1}
    canonical = sorted(json.dumps([grid, each], sort_keys=True) for grid, each in found)
    assert hashlib.sha256("\n".join(canonical).encode()).hexdigest() == VALUES


@pytest.mark.parametrize("grid", COMMITTED)
def test_committed_records_are_sorted_by_row_and_seed(grid: str) -> None:
    text = (ROOT / RESULTS / f"{grid}.jsonl").read_text()
    assert [json.loads(line) for line in text.splitlines()] == read_results(ROOT, grid)
    assert text.endswith("}\n")


def test_records_are_sorted_and_one_replaces_the_former_of_its_row_and_seed(tmp_path: Path) -> None:
    assert read_results(tmp_path, "table") == []
    for row, seed in (("b", 10), ("b", 9), ("a", 0)):
        write_result(tmp_path, "table", record(row, seed, history=[0.1, None, 1e-30]))
    before = lines(tmp_path)
    write_result(tmp_path, "table", record("b", 9, recipe=2))

    assert [(each["row"], each["seed"]) for each in read_results(tmp_path, "table")] == [
        ("a", 0),
        ("b", 9),
        ("b", 10),
    ]
    assert [lines(tmp_path)[0], lines(tmp_path)[2]] == [before[0], before[2]]
    assert [recipe_of(each) for each in read_results(tmp_path, "table")] == [1, 2, 1]
    assert read_results(tmp_path, "table")[0]["history"] == [0.1, None, 1e-30]
    assert [path.name for path in (tmp_path / RESULTS).iterdir()] == ["table.jsonl"]


def test_no_record_is_lost_when_many_are_written_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: write_result(tmp_path, "table", record("a", seed)), range(40)))
    assert [each["seed"] for each in read_results(tmp_path, "table")] == list(range(40))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"row": "B"', r"^experiments/results/table\.jsonl, line 2 is damaged .*restore the file with git"),
        ('{"row": "B"}', r"line 2 is damaged \(not the record of a cell\)"),
        ("[]", r"line 2 is damaged \(not the record of a cell\)"),
        (json.dumps(record("a", 0)), r"line 2 is a second record of row a, seed 0: remove one"),
    ],
)
def test_a_line_that_is_no_record_or_one_too_many_is_named(tmp_path: Path, line: str, words: str) -> None:
    write_result(tmp_path, "table", record("a", 0))
    with (tmp_path / RESULTS / "table.jsonl").open("a") as file:
        file.write(line + "\n")
    for use in (
        lambda: read_results(tmp_path, "table"),
        lambda: write_result(tmp_path, "table", record("b", 1)),
    ):
        with pytest.raises(UserError, match=words):
            use()


def test_images_differ_where_digests_do_for_the_same_parameters_of_the_data() -> None:
    def made(
        raw: str, processed: str, *, height: int = 288, split: int = 1, epochs: int = 1
    ) -> dict[str, Any]:
        params = {"download.dataset": "regdb", "preprocess.height": height, "preprocess.regdb_split": split}
        data = {"data/raw/images.zip": raw, "data/processed/manifest.csv": processed}
        return record("a", 0, params={**params, "train.epochs": epochs}, data=data)

    first = made("raw", "one")
    assert not images_differ(
        [first, made("raw", "one", epochs=2), made("raw", "two", split=2), record("b", 0)]
    )
    assert images_differ([first, made("raw", "two")])
    assert images_differ([first, made("other", "two", split=2)])
