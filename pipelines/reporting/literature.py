"""Published figures, as printed, from the tables in pipelines/reporting/published."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "published"
MSCLNET = "MSCLNet"


@dataclass(frozen=True)
class Published:
    """One method's figures on one data set.

    Attributes:
        method: Its name.
        year: Of publication.
        venue: Short name of conference or journal.
        source: Where the figures were read.
        figures: Column -> percent as printed; empty where none was printed.
    """

    method: str
    year: int
    venue: str
    source: str
    figures: dict[str, str]


def read_published(dataset: str, *, columns: Sequence[str]) -> list[Published]:
    """The published figures on a data set, in order of the year.

    Args:
        dataset: `sysu_mm01` or `regdb`.
        columns: The figures' columns, all of the file's.

    Raises:
        ValueError: The file has other columns.
    """
    with (FOLDER / f"{dataset}.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        if list(reader.fieldnames or ()) != ["method", "year", "venue", *columns, "source"]:
            raise ValueError(f"{dataset}.csv has the columns {reader.fieldnames}")
        return [
            Published(
                method=row["method"],
                year=int(row["year"]),
                venue=row["venue"],
                source=row["source"],
                figures={column: row[column] for column in columns},
            )
            for row in reader
        ]
