"""Where raw files come from: a folder or a zip archive, read by the same calls."""

import zipfile
from pathlib import Path
from typing import Protocol

from msclnet.errors import UserError


class Source(Protocol):
    """Named files, with `/` between the parts of a name."""

    def names(self) -> list[str]:
        """All files, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """Content of one file."""
        ...


class FolderSource:
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        return sorted(
            path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file()
        )

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
