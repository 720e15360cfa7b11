"""The files of a data set: a folder, a zip or a tar archive behind one interface."""

import lzma
import os
import stat
import struct
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

from msclnet.errors import UserError
from msclnet.progress import progress_bar

# One bound on size and count, far above every data set of the field: a wrong link is reported, not packed for hours.
MOST_FILE_BYTES = 64 * 2**20  # of one image or list, which is held in memory
MOST_FILES = 2_000_000  # files and folders; links to folders may multiply them

# Damaged archives make zipfile, tarfile and their decompressors raise any of these; RuntimeError: encrypted.
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError,
    ValueError, RuntimeError, NotImplementedError,
)  # fmt: skip


class UnreadableFileError(Exception):
    """One file of a source cannot be read whole; the message says why."""


class Source(Protocol):
    """Named files, with `/` between the parts of a name."""

    def names(self) -> list[str]:
        """All files, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """Content of one file; UnreadableFileError where it is damaged, too large or no plain file."""
        ...


class FolderSource:
    """Files below a folder; links are followed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def _raw(self) -> dict[str, str]:
        return _by_own_name((raw for raw, _ in walk(self.root)), self.root)

    def names(self) -> list[str]:
        return sorted(self._raw)

    def read(self, name: str) -> bytes:
        return read_plain_file(self.root / self._raw.get(name, name))


class ZipSource:
    """Members of a zip archive, read in place."""

    def __init__(self, path: Path) -> None:
        self.archive = zipfile.ZipFile(path)
        members = [member for member in self.archive.infolist() if not member.is_dir()]
        raw = _by_own_name((member.filename for member in members), path)
        by_raw = {member.filename: member for member in members}
        self._members = {name: by_raw[raw_name] for name, raw_name in raw.items()}

    def names(self) -> list[str]:
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        member = self._members[name]
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UnreadableFileError("a link inside of an archive, which is not followed")
        if member.flag_bits & 0x1:
            raise UnreadableFileError("encrypted")
        try:
            with self.archive.open(member) as file:
                # Counted as it comes: a header may say anything.
                return _bounded(file.read(MOST_FILE_BYTES + 1))
        except DAMAGE as error:
            raise UnreadableFileError(f"damaged in the archive: {error}") from error


class TarSource:
    """Members of a tar archive, compressed or not.

    A compressed stream cannot be read at random: the wanted members are copied to a temporary file without a name.
    """

    def __init__(self, path: Path, *, wanted: Callable[[str], bool], scratch: Path | None = None) -> None:
        self._spool = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  held as long as the source
        self._places: dict[str, tuple[int, int] | None] = {}
        raw_names = []
        with (
            tarfile.open(path, "r|*") as archive,
            progress_bar(total=0, desc=f"read {path.name}", unit="file") as bar,
        ):
            for member in archive:
                bar.update()
                if member.isdir():
                    continue
                raw_names.append(member.name)
                _check_count(len(raw_names), path)
                if not wanted(name := own_name(member.name)):
                    self._places[name] = None
                elif (file := archive.extractfile(member) if member.isreg() else None) is None:
                    raise UserError(
                        f"{path}: {name} is a link inside of the archive, which is not followed; unpack it and "
                        "link the folder"
                    )
                else:
                    start, data = self._spool.tell(), file.read(MOST_FILE_BYTES + 1)
                    self._spool.write(data)
                    self._places[name] = start, len(data)
        _by_own_name(raw_names, path)

    def names(self) -> list[str]:
        return sorted(self._places)

    def read(self, name: str) -> bytes:
        place = self._places[name]
        if place is None:
            raise UnreadableFileError("not one of the wanted files")
        self._spool.seek(place[0])
        return _bounded(self._spool.read(place[1]))


def open_source(
    path: Path, *, wanted: Callable[[str], bool] = lambda name: True, scratch: Path | None = None
) -> Source:
    """Open a folder, a zip archive or a tar archive (.tar, .tar.gz, .tar.xz, .tar.bz2), by content and not by name.

    Of a tar archive only the `wanted` files can be read; `scratch` is the folder of its temporary file.

    Raises:
        UserError: There is nothing at `path`, or it is something else, or damaged.
    """
    if path.is_dir():
        return FolderSource(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    try:
        if tarfile.is_tarfile(path):  # first: a tar archive may end with a zip archive
            return TarSource(path, wanted=wanted, scratch=scratch)
        if zipfile.is_zipfile(path):
            return ZipSource(path)
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's refusal, and no damage
        raise UserError(f"{path} is damaged or incomplete ({error}); get the archive again") from error
    raise UserError(
        f"{path} is not a folder, a zip or a tar archive, or is damaged; unpack other kinds (RAR, 7z) and link the "
        "folder"
    )


def own_name(raw: str) -> str:
    """A name as it is packed: `/` between its parts, no `.`, `..` or empty part.

    Bytes that are no UTF-8 (a folder named on an old Windows) and control characters become `%XX`.
    """
    text = "".join(
        f"%{ord(character) & 0xFF:02X}" if unicodedata.category(character) in ("Cc", "Cs") else character
        for character in raw.replace("\\", "/")
    )
    return "/".join(part for part in text.split("/") if part not in ("", ".", ".."))


def read_plain_file(path: Path) -> bytes:
    """Content of a file of at most MOST_FILE_BYTES; UnreadableFileError for a larger one, a pipe or a device."""
    try:
        # Opening a pipe would wait until something writes to it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnreadableFileError("no plain file")
            return _bounded(file.read(MOST_FILE_BYTES + 1))
    except OSError as error:
        raise UnreadableFileError(error.strerror or str(error)) from error


def walk(root: Path) -> Iterator[tuple[str, os.stat_result | None]]:
    """Relative names and statuses of everything below a folder that is no folder; None for a link to nothing.

    Links are followed: a data folder is often made of links to another disk. A link back to a folder above ends there.
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
                    _check_count(count, root)
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


def _bounded(data: bytes) -> bytes:
    if len(data) > MOST_FILE_BYTES:
        raise UnreadableFileError(f"more than {MOST_FILE_BYTES} bytes, too many for an image or a list")
    return data


def _by_own_name(raw_names: Iterable[str], path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw in raw_names:
        name = own_name(raw)
        if name in found:
            raise UserError(f"{path}: {name} is there twice ({found[name]!r}, {raw!r}); remove one of them")
        found[name] = raw
        _check_count(len(found), path)
    return found


def _check_count(count: int, path: Path) -> None:
    if count > MOST_FILES:
        raise UserError(
            f"{path} holds more than {MOST_FILES} files and folders; links to folders may multiply them: link the data "
            "set's own folder"
        )
