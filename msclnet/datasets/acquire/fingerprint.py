"""One digest for what a place holds, so that a changed copy of a data set is noticed and an unchanged one is not."""

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from msclnet.datasets.acquire.digest_memory import recall, remember
from msclnet.datasets.acquire.files import CHUNK, byte_bar, sha256_of
from msclnet.datasets.acquire.local_copy import check_digest
from msclnet.datasets.acquire.place import Address, Archive, Place
from msclnet.datasets.archive import walk
from msclnet.errors import UserError


def fingerprint(place: Place, *, memory: Path, wanted: Callable[[str], bool] | None = None) -> str:
    """The sha256 of an archive, or one over the names, sizes and contents of a folder's files.

    Args:
        place: From `read_place`. An address is not asked: its declared sha256 is the answer.
        memory: A JSON file with the digests of former calls. A file counts as unchanged while its size, its times
            of change, its inode and its path are the same.
        wanted: Which of a folder's files count, by their names below it; None: all.

    Returns:
        64 hex digits.

    Raises:
        UserError: Something cannot be read, changes while it is read, or is not what was declared.
    """
    if isinstance(place, Address):
        return place.sha256
    try:
        if isinstance(place, Archive):
            digest = _remembered(
                place.path, memory, lambda: _state(place.path), lambda: sha256_of(place.path)
            )
            check_digest(place, digest)
            return digest
        files = _Files(place.path, wanted)
        return _remembered(place.path, memory, files.state, files.sha256)
    except OSError as error:
        raise UserError(f"{error.filename or place} cannot be read: {error.strerror}") from error


class _Files:
    def __init__(self, root: Path, wanted: Callable[[str], bool] | None) -> None:
        self.root = root
        self.wanted = wanted

    def listing(self) -> list[tuple[str, os.stat_result]]:
        return sorted(
            ((name, status) for name, status in walk(self.root) if status and self._counts(name, status)),
            key=lambda file: file[0],
        )

    def state(self) -> str:
        digest = hashlib.sha256()
        for name, status in self.listing():
            digest.update(_line(name, _numbers(status)))
        return digest.hexdigest()

    def sha256(self) -> str:
        files = self.listing()
        digest = hashlib.sha256()
        total = sum(status.st_size for _, status in files)
        with byte_bar(total, desc=f"check {self.root.name}") as bar:
            for name, _ in files:
                content, size = hashlib.sha256(), 0
                with (self.root / name).open("rb") as file:
                    while chunk := file.read(CHUNK):
                        content.update(chunk)
                        size += len(chunk)
                        bar.update(len(chunk))
                digest.update(_line(name, f"{size} {content.hexdigest()}"))
        return digest.hexdigest()

    def _counts(self, name: str, status: os.stat_result) -> bool:
        return stat.S_ISREG(status.st_mode) and (self.wanted is None or self.wanted(name))


def _line(name: str, what: str) -> bytes:
    # A name holds no NUL: no two listings give the same bytes.
    return os.fsencode(name) + f"\0{what}\n".encode()


def _numbers(status: os.stat_result) -> str:
    # The time of the last change of the inode shows a rewriting that sets the other time back.
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _state(path: Path) -> str:
    return _numbers(path.stat())


def _remembered(path: Path, memory: Path, state: Callable[[], str], sha256: Callable[[], str]) -> str:
    before = state()
    if known := recall(memory, path, before):
        return known
    digest = sha256()
    if state() != before:
        raise UserError(f"{path} changed while it was read; wait until it is copied, then start again")
    remember(memory, path, before, digest)
    return digest
