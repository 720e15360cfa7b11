"""The parts of a report: sections of headings, paragraphs, lists, tables and pictures. In texts, `...` marks code."""

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure

from msclnet.figures.style import png_bytes

PLAIN, PAPER, OURS, MISSING = "plain", "paper", "ours", "missing"
"""Kinds of a table's rows: whose numbers they are, and that they were not run."""


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    kind: ClassVar = "heading"
    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text; a warning is set apart."""

    kind: ClassVar = "paragraph"
    text: str
    warning: bool = False


@dataclass(frozen=True)
class Items:
    """A list of short texts."""

    kind: ClassVar = "items"
    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    Attributes:
        frame: The cells as texts. The index holds the kind of each row. Columns are titles, or pairs of a group and a
            title.
        caption: Shown below.
        words: Titles of the columns that hold words; all others hold numbers.
    """

    kind: ClassVar = "table"
    frame: pd.DataFrame
    caption: str
    words: Collection[str]

    @property
    def columns(self) -> list[tuple[str, str, bool]]:
        """Group, title, and whether the column holds numbers."""
        pairs = [column if isinstance(column, tuple) else ("", column) for column in self.frame.columns]
        return [(group, title, title not in self.words) for group, title in pairs]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Adjacent columns of one group: its name and their number; empty where no column has a group."""
        names = [group for group, _, _ in self.columns]
        return [(name, len(list(same))) for name, same in groupby(names)] if any(names) else []

    @property
    def rows(self) -> list[tuple[str, Sequence[str]]]:
        """Kind and cells of each row."""
        return [(str(kind), cells) for kind, *cells in self.frame.itertuples(name=None)]


@dataclass(frozen=True)
class Picture:
    """A PNG picture.

    Attributes:
        name: Of the file, without its ending.
        png: Content of the file.
        description: For readers who cannot see it.
        caption: Shown below.
    """

    kind: ClassVar = "picture"
    name: str
    png: bytes
    description: str
    caption: str

    @property
    def base64(self) -> str:
        """The file as text, for a page that holds its pictures."""
        return base64.b64encode(self.png).decode()


Block = Heading | Paragraph | Items | Table | Picture


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    blocks: Sequence[Block]


def picture(name: str, figure: Figure, *, description: str, caption: str) -> Picture:
    """A figure as a picture; equal figures give equal bytes."""
    return Picture(name, png_bytes(figure), description, caption)
