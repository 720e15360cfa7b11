"""Which images go into a gallery, and what is known of each: from the names of files, or from a table."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv

from msclnet.errors import UserError
from msclnet.gallery.schema import MODALITIES, STANDARD
from msclnet.images.user_files import Unreadable, find_images

KNOWN = ("camera", "time", "modality", "identity")  # what a pattern or a table may say of an image
COMPUTED = tuple(name for name in STANDARD if name not in (*KNOWN, "path"))

_NAME = re.compile(r"[A-Za-z_]\w*")
_DIGITS = {"%Y": r"\d{4}", "%f": r"\d{1,6}", "%j": r"\d{3}"} | dict.fromkeys(
    ("%m", "%d", "%H", "%M", "%S"), r"\d{2}"
)
_FIELD = re.compile(r"\{(?P<name>[^{}:]*)(?::(?P<format>[^{}]*))?\}|(?P<star>\*)")


@dataclass(frozen=True)
class Source:
    """An image file and what is known of it.

    Attributes:
        path: Absolute.
        given: Values by column; a column that is not there is not known.
    """

    path: str
    given: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sources:
    """Images to add, those that cannot be, and the user's own columns."""

    images: list[Source]
    refused: list[Unreadable]
    others: list[pa.Field]


class NamePattern:
    """Reads columns out of file names, such as `{camera}_{time:%Y%m%dT%H%M%S}_*.jpg`.

    `{column}` is text without a slash, `{time:FORMAT}` a time as Python's strptime reads it, `*` any text without a
    slash. A pattern with slashes is compared with as many folders of the path, one without with the file's name.

    Raises:
        UserError: The pattern names no column, one twice, or one that cannot be given.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.columns: list[str] = []
        self._time_format = ""
        expression, end = "", 0
        for found in _FIELD.finditer(pattern):
            expression += re.escape(pattern[end : found.start()]) + self._part(found)
            end = found.end()
        self._expression = re.compile(expression + re.escape(pattern[end:]))
        if not self.columns:
            raise UserError(f"--pattern {pattern}: names no column; give one such as '{{camera}}_*.jpg'")

    def values(self, path: Path) -> dict[str, Any]:
        """What the path says.

        Raises:
            ValueError: It does not fit.
        """
        tail = "/".join(path.parts[-1 - self.pattern.count("/") :])
        match = self._expression.fullmatch(tail)
        if match is None:
            raise ValueError(f"its name does not fit the pattern {self.pattern}")
        values: dict[str, Any] = match.groupdict()
        if self._time_format:
            try:
                values["time"] = datetime.strptime(values["time"], self._time_format)
            except ValueError:
                raise ValueError(f"time {values['time']!r} does not fit {self._time_format}") from None
        return values

    def _part(self, found: re.Match[str]) -> str:
        if found["star"]:
            return "[^/]*"
        name, form = found["name"], found["format"]
        wrong = not _NAME.fullmatch(name) or name in ("path", *COMPUTED) or name in self.columns
        if wrong or (form is not None and name != "time") or (name == "time" and not form):
            raise UserError(
                f"--pattern {self.pattern}: {found[0]!r} is no column that a name can give; use each of "
                "{camera}, {modality}, {identity}, {time:%Y%m%d} or a name of your own once"
            )
        self.columns.append(name)
        if form is None:
            return f"(?P<{name}>[^/]+?)"
        self._time_format = form
        parts = re.split(r"(%.)", form)
        return f"(?P<time>{''.join(_DIGITS.get(part, re.escape(part)) for part in parts)})"


def folder_sources(
    folder: Path, *, pattern: str | None = None, given: Mapping[str, Any] | None = None
) -> Sources:
    """All images below a folder.

    Args:
        folder: Searched at any depth.
        pattern: Of the names, see NamePattern; a file that does not fit is refused.
        given: What holds for every image.

    Raises:
        UserError: There is no such folder, or the pattern is wrong.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder that holds the images")
    names = NamePattern(pattern) if pattern else None
    paths, refused = find_images(folder.absolute())
    images = []
    for path in paths:
        try:
            values = {**(names.values(path) if names else {}), **(given or {})}
            _check_modality(values)
            images.append(Source(_text(path), values))
        except ValueError as error:
            refused.append(Unreadable(path, str(error)))
    own = [name for name in names.columns if name not in KNOWN] if names else []
    return Sources(images, refused, [pa.field(name, pa.string()) for name in own])


def table_sources(table: Path, folder: Path, *, given: Mapping[str, Any] | None = None) -> Sources:
    """The images that a CSV file names.

    Args:
        table: Columns `path` and, where known, `camera`, `time` (ISO format; with a zone it is stored as UTC),
            `modality`, `identity`; any others become columns of the gallery.
        folder: What relative paths refer to.
        given: What holds for every image.

    Raises:
        UserError: The file is missing, is no such table, or names a column that cannot be given.
    """
    rows, others = _read_table(table)
    images: list[Source] = []
    refused: list[Unreadable] = []
    for row in rows:
        path = Path(folder, row.pop("path") or "").absolute()
        try:
            values = {name: value for name, value in row.items() if value not in (None, "")} | dict(
                given or {}
            )
            if "time" in values:
                values["time"] = parse_time(values["time"])
            _check_modality(values)
            images.append(Source(_text(path), values))
        except ValueError as error:
            refused.append(Unreadable(path, str(error)))
    return Sources(list({image.path: image for image in images}.values()), refused, others)


def parse_time(text: str) -> datetime:
    """A time in ISO format; one with a zone is turned into UTC, one without is taken as it is.

    Raises:
        ValueError: It is none.
    """
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"time {text!r}: write it as 2026-11-01 or 2026-11-01T08:30:00") from None
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def _read_table(table: Path) -> tuple[list[dict[str, Any]], list[pa.Field]]:
    """The rows, and the columns of the user's own with the types that Arrow finds."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
        text = {name: pa.string() for name in ("path", *KNOWN)}
        options = arrow_csv.ConvertOptions(column_types=text, strings_can_be_null=True, null_values=[""])
        read = arrow_csv.read_csv(table, convert_options=options)
    except FileNotFoundError:
        raise UserError(f"--table {table}: no such file; give a CSV file with a column `path`") from None
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--table {table}: not readable as CSV ({reason}); write it again as UTF-8"
        ) from error
    _check_header(table, header)
    read = read.rename_columns(header)
    others = [
        pa.field(column.name, pa.string() if pa.types.is_null(column.type) else column.type)
        for column in read.schema
        if column.name not in ("path", *KNOWN)
    ]
    return read.to_pylist(), others


def _check_header(table: Path, header: Sequence[str]) -> None:
    if "path" not in header:
        raise UserError(
            f"--table {table}: no column `path` (columns: {', '.join(header)}); name the images there"
        )
    for name in header:
        if not _NAME.fullmatch(name) or name in COMPUTED or header.count(name) > 1:
            raise UserError(
                f"--table {table}: column {name!r} cannot be kept; name each column once, with letters, digits and _, "
                f"and none of {', '.join(COMPUTED)}, which are computed"
            )


def _check_modality(values: Mapping[str, Any]) -> None:
    if (modality := values.get("modality")) is not None and modality not in MODALITIES:
        raise ValueError(f"modality {modality!r}: write visible or infrared, or leave it out")


def _text(path: Path) -> str:
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("its name is no UTF-8; rename it") from None
    return text
