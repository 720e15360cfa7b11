"""The metrics file: exact numbers, empty cells, whole or not at all."""

import csv
import math
import os
from pathlib import Path

import pytest

from msclnet.training.history import read_history, write_history

ROWS = [
    {"epoch": 1, "total": 0.1 + 0.2, "gradient_identity": 1e-300},
    {"epoch": 2, "total": 1 / 3},
    {"epoch": 3, "total": 5.0, "val_score": 0.0},
]


def test_numbers_come_back_exactly(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", ROWS)
    assert read_history(tmp_path / "history.csv") == ROWS
    assert [type(row["epoch"]) for row in read_history(tmp_path / "history.csv")] == [int] * 3


def test_the_table_by_other_eyes(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", ROWS)
    with (tmp_path / "history.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["epoch", "total", "gradient_identity", "val_score"]
    assert [len(line) for line in lines] == [4] * 4
    assert [line[2] for line in lines[1:]] == ["1e-300", "", ""]
    assert [line[3] for line in lines[1:]] == ["", "", "0.0"]


def test_values_that_are_no_numbers_survive(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", [{"epoch": 1, "a": math.inf, "b": math.nan}])
    (row,) = read_history(tmp_path / "history.csv")
    assert row["a"] == math.inf
    assert math.isnan(row["b"])


def test_no_epoch_yet(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", [])
    assert read_history(tmp_path / "history.csv") == []


def test_a_failed_write_leaves_the_former_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.csv"
    write_history(path, ROWS[:1])
    before = path.read_bytes()

    def torn(self: Path, text: str, **_: str) -> int:
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_text", torn)
    with pytest.raises(OSError, match="No space left"):
        write_history(path, ROWS)
    assert path.read_bytes() == before
