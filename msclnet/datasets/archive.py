"""The files of a data set: a folder, a zip or a tar archive behind one interface, and the one archive made of them."""

import lzma
import os
import shutil
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
MOST_BYTES = 128 * 2**30  # of all packed files
MOST_FILES = 2_000_000  # files and folders; links to folders may multiply them

ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".rar", ".7z", ".zst")
# Damaged archives make zipfile, tarfile and their decompressors raise any of these; RuntimeError: encrypted.
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError,
    ValueError, RuntimeError, NotImplementedError,
)  # fmt: skip
DAY = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can name


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
            UnreadableFileError: It is damaged, larger than MOST_FILE_BYTES, or no plain file.
        """
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
                return _bounded(
                    file.read(MOST_FILE_BYTES + 1)
                )  # counted as it comes: a header may say anything
        except DAMAGE as error:
            raise UnreadableFileError(f"damaged in the archive: {error}") from error


class TarSource:
    """Members of a tar archive, compressed or not.

    A compressed stream cannot be read at random: the wanted members are copied once to a temporary file without a name,
    so that not even a killed process leaves it behind.
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

    Args:
        path: The folder or file.
        wanted: Which files will be read, by their name; others of a tar archive are listed and cannot be read.
        scratch: Folder for a tar archive's temporary file.

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


def pack(
    path: Path,
    destination: Path,
    *,
    wanted: Callable[[str], bool],
    check: Callable[[Source], object] = lambda source: None,
    expected: str = "",
) -> int:
    """Write the wanted files of a folder or an archive into one zip archive without compression.

    The same files give the same bytes, whatever they came in. The destination appears whole or not at all. Members are
    streamed from one archive into the other under `own_name`: nothing is ever unpacked.

    Args:
        path: The folder, zip or tar archive.
        destination: The zip archive; its folder is made where it is missing.
        wanted: Whether a file is needed, by its name.
        check: Looks at the opened source before anything is written, and raises UserError where it does not fit.
        expected: The wanted files in words, for the message when there are none.

    Returns:
        The number of files.

    Raises:
        UserError: No file is wanted; a file cannot be read; there are too many files or bytes, or too little room.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    source = open_source(path, wanted=wanted, scratch=destination.parent)
    names = [name for name in source.names() if wanted(name)]
    if not names:
        raise _nothing_found(path, source.names(), expected)
    check(source)
    _check_room(destination.parent, path)
    unfinished = destination.with_name(f".{destination.name}.partial")
    total = 0
    try:
        with (
            zipfile.ZipFile(unfinished, "w") as archive,
            progress_bar(total=len(names), desc="pack", unit="file") as bar,
        ):
            for name in names:
                data = _read_for_packing(source, name, path)
                total += len(data)
                if total > MOST_BYTES:
                    raise UserError(
                        f"{path} holds more than {MOST_BYTES} bytes of images; link the data set alone"
                    )
                # A header that says nothing of the day, the machine or the archive that the file came from.
                member = zipfile.ZipInfo(name, date_time=DAY)
                member.create_system = 3
                member.external_attr = 0o644 << 16
                archive.writestr(member, data, compress_type=zipfile.ZIP_STORED)
                bar.update()
        os.replace(unfinished, destination)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(names)


def own_name(raw: str) -> str:
    """A name as it is packed: `/` between its parts, no `.`, `..` or empty part, in UTF-8 without control characters.

    Bytes that are no UTF-8 (a folder named on an old Windows) and control characters become `%XX`.
    """
    text = "".join(
        f"%{ord(character) & 0xFF:02X}" if unicodedata.category(character) in ("Cc", "Cs") else character
        for character in raw.replace("\\", "/")
    )
    return "/".join(part for part in text.split("/") if part not in ("", ".", ".."))


def read_plain_file(path: Path) -> bytes:
    """Content of a file of limited size.

    Raises:
        UnreadableFileError: It has more than MOST_FILE_BYTES bytes, is a pipe or a device, or cannot be opened.
    """
    try:
        # Opening a pipe would wait until something writes to it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnreadableFileError("no plain file")
            return _bounded(file.read(MOST_FILE_BYTES + 1))
    except OSError as error:
        raise UnreadableFileError(error.strerror or str(error)) from error


def walk(root: Path) -> Iterator[tuple[str, os.stat_result | None]]:
    """Everything below a folder that is no folder, in no particular order.

    Links are followed: a data folder is often made of links to another disk. A folder that a link leads back into
    from its own inside is not entered again, so that a loop ends.

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
    """Raw names by the names that they are packed under."""
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


def _read_for_packing(source: Source, name: str, path: Path) -> bytes:
    try:
        return source.read(name)
    except UnreadableFileError as error:
        remedy = {
            "encrypted": "unpack the archive with its password and link the folder",
            "a link inside of an archive, which is not followed": "unpack the archive and link the folder",
        }.get(str(error), "repair or remove this file, or get the data set's files again")
        raise UserError(f"{path}: {name} cannot be read ({error}); {remedy}") from error


def _check_room(folder: Path, path: Path) -> None:
    """An archive's size, or a folder's, is about what the packed files need."""
    needed = path.stat().st_size if path.is_file() else 0
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder.absolute()}: about {needed / 2**30:.1f} GiB are needed, {free / 2**30:.1f} GiB are free; free "
            "some space (`dvc gc --workspace --all-experiments` removes unused results)"
        )


def _nothing_found(path: Path, names: list[str], expected: str) -> UserError:
    seen = f"{len(names)} other files, for example {', '.join(names[:5])}" if names else "no file"
    lines = [f"{path} holds none of the files that are needed, but {seen}"]
    lines += [f"expected are {expected}"] if expected else []
    if inner := [name for name in names if name.lower().endswith(ARCHIVE_ENDINGS)][:5]:
        lines.append(
            f"archives inside of it are not opened ({', '.join(inner)}): link such an archive itself, or unpack it and "
            "link the folder"
        )
    return UserError("; ".join(lines))
