"""What a report is made of, whichever way it is written. In texts, `...` marks code."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure

from msclnet.figures.style import DPI, styled

Kind = Literal["plain", "paper", "ours", "missing"]


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text; `warning` sets it apart."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Items:
    """A list of short texts."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Column:
    """A table's column; columns of one group stand side by side under the group's title."""

    title: str
    group: str = ""
    number: bool = False


@dataclass(frozen=True)
class Row:
    """A table's row: one text a column. The kind says whose figures they are, and that some were not run."""

    cells: Sequence[str]
    kind: Kind = "plain"


@dataclass(frozen=True)
class Table:
    """A table with its caption."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    caption: str

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"{len(row.cells)} cells for {len(self.columns)} columns: {row.cells}")


@dataclass(frozen=True)
class Picture:
    """A PNG picture.

    Attributes:
        name: The file's name without its ending.
        png: The file's bytes.
        description: What a reader who does not see it should know.
        caption: Shown below.
    """

    name: str
    png: bytes
    description: str
    caption: str


Block = Heading | Paragraph | Items | Table | Picture


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    blocks: Sequence[Block]


@styled()
def picture(name: str, figure: Figure, *, description: str, caption: str) -> Picture:
    """A figure as a PNG picture; equal figures give equal bytes.

    Args:
        name: The file's name without its ending.
        figure: Any figure.
        description: What a reader who does not see it should know.
        caption: Shown below.
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return Picture(name=name, png=stream.getvalue(), description=description, caption=caption)
