"""The images of a data set: a folder or one zip file behind the same interface."""

import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

from msclnet.datasets.records import Modality
from msclnet.errors import UserError

MOST_BYTES = 64 * 2**20  # of one image or list, which is held in memory
MAX_ENTRIES = 2_000_000  # files and folders; more than any data set has, reached by links that multiply


class UnreadableFileError(Exception):
    """One file of a source cannot be read whole; the message says why."""


class Source(Protocol):
    """Named files, with `/` between the parts of a name."""

    def names(self) -> list[str]:
        """All files, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """Content of one file.

        Raises:
            UnreadableFileError: It is damaged, too large or no plain file.
        """
        ...


class FolderSource:
    """Files below a folder, those behind links included."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        found = walk(self.root)
        return sorted(name for name, status in found if status and stat.S_ISREG(status.st_mode))

    def read(self, name: str) -> bytes:
        return read_plain_file(self.root / name)


class ZipSource:
    """Members of a zip archive, read in place: one file on disk instead of tens of thousands."""

    def __init__(self, path: Path) -> None:
        self.archive = zipfile.ZipFile(path)

    def names(self) -> list[str]:
        return sorted(info.filename for info in self.archive.infolist() if not info.is_dir())

    def read(self, name: str) -> bytes:
        member = self.archive.getinfo(name)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile decompresses all that it reads of other methods at once; one byte may become thousands.
            raise UnreadableFileError("compressed by a method that is not used here")
        try:
            with self.archive.open(member) as file:
                data = file.read(MOST_BYTES + 1)  # counted as it comes, for a header may say anything
        # RuntimeError: encrypted.
        except (
            zipfile.BadZipFile,
            zlib.error,
            struct.error,
            EOFError,
            OSError,
            ValueError,
            RuntimeError,
        ) as error:
            raise UnreadableFileError(f"damaged in the archive: {error}") from error
        return _bounded(data)


def open_source(path: Path) -> Source:
    """Open a folder or a zip archive.

    Raises:
        UserError: There is nothing at `path`, or it is neither of the two.
    """
    if path.is_dir():
        return FolderSource(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; `dvc repro download` writes the raw images")
    try:
        return ZipSource(path)
    except zipfile.BadZipFile as error:
        raise UserError(
            f"{path} is neither a folder nor a readable zip archive ({error}); remove it and run `dvc repro download`"
        ) from error


def read_plain_file(path: Path) -> bytes:
    """Content of a file of limited size.

    Raises:
        UnreadableFileError: It has more than MOST_BYTES bytes, is a pipe or a device, or cannot be opened.
    """
    try:
        # Opening a pipe would wait for somebody to write to it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnreadableFileError("no plain file")
            return _bounded(file.read(MOST_BYTES + 1))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UnreadableFileError(getattr(error, "strerror", None) or str(error)) from error


def _bounded(data: bytes) -> bytes:
    if len(data) > MOST_BYTES:
        raise UnreadableFileError(f"more than {MOST_BYTES} bytes, too many for an image or a list")
    return data


def walk(root: Path, *, most: int = MAX_ENTRIES) -> Iterator[tuple[str, os.stat_result | None]]:
    """Everything below a folder that is no folder, in no particular order.

    Links are followed: a data folder is often made of links to another disk. A folder that a link leads back into
    from its own inside is not entered again, so that a loop ends.

    Args:
        root: The folder.
        most: Files and folders to look at before giving up.

    Yields:
        The name relative to the root, with `/`, and the status of what it leads to; None for a link to nothing.

    Raises:
        UserError: A folder may not be read, or there are too many entries.
    """
    count = 0
    try:
        top = root.stat()
        waiting = [("", frozenset({(top.st_dev, top.st_ino)}))]
        while waiting:
            prefix, above = waiting.pop()
            with os.scandir(root / prefix) as entries:
                for entry in entries:
                    count += 1
                    if count > most:
                        raise UserError(
                            f"{root} holds more than {most} files and folders; links to folders may multiply them: "
                            "give the data set's own folder"
                        )
                    name = prefix + entry.name
                    status = _status(entry)
                    if status is None or not stat.S_ISDIR(status.st_mode):
                        yield name, status
                    elif (key := (status.st_dev, status.st_ino)) not in above:
                        waiting.append((f"{name}/", above | {key}))
    except OSError as error:
        raise UserError(f"{error.filename or root} cannot be read: {error.strerror}") from error


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:
        if entry.is_symlink():
            return None
        raise


EXTENSION = r"\.(?:jpg|jpeg|png|bmp)"
# A leading dot marks what macOS writes beside an image.
IMAGE_FILE = rf"[^/.][^/]*{EXTENSION}"


class Image(NamedTuple):
    """A record before it is known to which split it belongs."""

    path: str
    identity: int
    camera: int
    modality: Modality


@dataclass(frozen=True)
class Layout:
    """Which files belong to a data set.

    Attributes:
        title: The data set's name in messages.
        lists: Pattern of its lists of identities or images, below the root.
        images: Pattern of its images, below the root.
    """

    title: str
    lists: str
    images: str

    @cached_property
    def patterns(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """Lists and images with the folder that the data set lies in before them, as the group `root`."""
        lists, images = (
            re.compile(f"(?P<root>(?:.*/)?)(?:{pattern})", re.IGNORECASE)
            for pattern in (self.lists, self.images)
        )
        return lists, images

    def wants(self, name: str) -> bool:
        """Whether a file belongs to the data set by its name, whatever folder the data set lies in."""
        return any(pattern.fullmatch(name) for pattern in self.patterns)

    def root(self, names: Iterable[str]) -> str:
        """The folder that the data set lies in: empty, or ending with `/`.

        The outermost one that holds a list counts, or an image where there is no list at all.
        """
        names = list(names)
        for pattern in self.patterns:
            roots = {match["root"] for name in names if (match := pattern.fullmatch(name))}
            if roots:
                return min(roots, key=lambda root: (root.count("/"), root))
        return ""


class Tree:
    """The files of a source that lie below a data set's root.

    Attributes:
        title: The data set's name in messages.
        root: Empty, or the root's folder with `/` at its end.
        names: The files below the root, without it, sorted.
    """

    def __init__(self, source: Source, layout: Layout) -> None:
        names = source.names()
        self.source = source
        self.title = layout.title
        self.root = layout.root(names)
        self.names = sorted(name.removeprefix(self.root) for name in names if name.startswith(self.root))
        self._spelled = {name.casefold(): name for name in reversed(self.names)}
        self._spelled |= {name: name for name in self.names}

    def find(self, name: str) -> str | None:
        """The file as it is spelled here; copies made on Windows change upper and lower case. None: no such file."""
        return self._spelled.get(name) or self._spelled.get(name.casefold())

    def text(self, name: str) -> str:
        """Content of a text file, without a byte order mark.

        Raises:
            UserError: There is no such file, or it is damaged or too large for a list.
        """
        found = self.find(name)
        if found is None:
            raise UserError(
                f"{self.title}: {self.root}{name} is missing; give the folder or archive that holds all of it"
            )
        try:
            return self.source.read(self.root + found).decode("utf-8-sig", errors="replace")
        except UnreadableFileError as error:
            raise UserError(
                f"{self.title}: {self.root}{name} cannot be read ({error}); get the data set's files anew"
            ) from error
