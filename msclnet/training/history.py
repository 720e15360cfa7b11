"""The metrics file: one row an epoch, independent of the tracking server."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from msclnet.files import replaced_file

HistoryRow = Mapping[str, float]


def write_history(path: Path, rows: Sequence[HistoryRow]) -> None:
    """Write all rows to a new file that replaces the old one; a figure that an epoch lacks stays empty.

    Columns are `epoch` and all names in order of appearance.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(name, value) for name, value in row.items()} for row in rows)
    with replaced_file(path) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8")


def read_history(path: Path) -> list[dict[str, float]]:
    """Rows as written; empty cells are left out."""
    return parse_history(path.read_text(encoding="utf-8"))


def parse_history(text: str) -> list[dict[str, float]]:
    """Rows of a history.csv's text."""
    return [
        {name: int(cell) if name == "epoch" else float(cell) for name, cell in row.items() if cell}
        for row in csv.DictReader(text.splitlines())
    ]


def _text(name: str, value: float) -> str:
    return str(int(value)) if name == "epoch" else repr(float(value))
