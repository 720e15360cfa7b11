"""Where raw files come from: a folder or a zip archive, read by the same calls."""

import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from msclnet.errors import UserError

MAX_ENTRIES = 2_000_000  # files and folders; more than any data set has, reached by links that multiply


class Source(Protocol):
    """Named files, with `/` between the parts of a name."""

    def names(self) -> list[str]:
        """All files, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """Content of one file."""
        ...


class FolderSource:
    """Files below a folder, those behind links included."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        found = walk(self.root)
        return sorted(name for name, status in found if status and stat.S_ISREG(status.st_mode))

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()


class ZipSource:
    """Members of a zip archive, read in place: one file on disk instead of tens of thousands."""

    def __init__(self, path: Path) -> None:
        self.archive = zipfile.ZipFile(path)

    def names(self) -> list[str]:
        return sorted(info.filename for info in self.archive.infolist() if not info.is_dir())

    def read(self, name: str) -> bytes:
        return self.archive.read(name)


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
