"""Files that are written whole or not at all, by one process at a time."""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from msclnet.errors import UserError
from msclnet.progress import progress_bar

CHUNK = 2**20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LARGE = 2**26  # bytes from which on a bar is worth its lines


@contextmanager
def exclusive(path: Path) -> Iterator[IO[bytes]]:
    """A file open for reading and writing, made when missing, that no other process holds in this way.

    The lock ends with the process, whatever ends it.

    Raises:
        UserError: Another process holds it.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that held it may have moved the file to its final name in between.
            mine = os.fstat(file.fileno()).st_ino == path.stat().st_ino
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:
            raise UserError(f"another process is writing {path}; wait for it to end, then start again")
        yield file


@contextmanager
def replacing(destination: Path) -> Iterator[IO[bytes]]:
    """An empty file that takes the destination's name when the block ends well, and vanishes when it does not.

    What a killed process left behind is overwritten by the next call.

    Raises:
        UserError: Another process is writing the same destination.
    """
    temporary = _unfinished(destination)
    with exclusive(temporary) as file:
        try:
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, destination)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def discard_unfinished(destination: Path) -> None:
    """Remove what a killed process left of a destination; what another process is writing just now stays."""
    unfinished = _unfinished(destination)
    if unfinished.exists():
        with suppress(UserError), exclusive(unfinished):
            unfinished.unlink()


def _unfinished(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.partial")


@contextmanager
def disk_full_told(path: Path) -> Iterator[None]:
    """Turn the system's refusal of room for a file into a message that names it.

    Raises:
        UserError: The disk or the quota is full, or the file too large for the file system.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(f"{path} could not be written: {error.strerror}; free some space") from error


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file, byte_bar(path.stat().st_size, desc=f"check {path.name}") as bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def byte_bar(total: int, *, desc: str, initial: int = 0) -> "tqdm[Any]":
    """A progress bar over bytes, for what is large enough to take time; 0 bytes mean that nobody knows."""
    bar = progress_bar(total=total, initial=initial, desc=desc, unit="B", disable=0 < total < LARGE)
    bar.unit_scale, bar.unit_divisor = True, 1024
    return bar


def check_space(folder: Path, needed: int) -> None:
    """Whether a folder's disk has room.

    Raises:
        UserError: It has not.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {needed / 2**30:.1f} GiB are needed, {free / 2**30:.1f} GiB are free; free some space "
            "(`dvc gc --workspace --all-experiments` removes unused results)"
        )
