"""What kind of archive a file is, by its content and not by its name."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Literal, cast

from msclnet.errors import UserError

Kind = Literal["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"]

SUPPORTED = "a zip, tar, tar.gz, tar.xz or tar.bz2 archive"
_COMPRESSIONS: dict[bytes, Kind] = {b"\x1f\x8b": "tar.gz", b"\xfd7zXZ\0": "tar.xz", b"BZh": "tar.bz2"}
_OTHERS = {b"Rar!": "RAR", b"7z\xbc\xaf\x27\x1c": "7z", b"\x28\xb5\x2f\xfd": "Zstandard"}


def archive_kind(path: Path) -> Kind:
    """The kind of an archive.

    Raises:
        UserError: The file is no archive of a supported kind, is damaged at its beginning, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(tarfile.BLOCKSIZE)
        for magic, name in _OTHERS.items():
            if start.startswith(magic):
                raise UserError(f"{path} is a {name} archive; unpack it and give the folder")
        if start.startswith((b"PK\3\4", b"PK\5\6")):
            return "zip"
        for magic, kind in _COMPRESSIONS.items():
            if start.startswith(magic):
                with path.open("rb") as file, decompressed(file, kind) as stream:
                    if _is_tar(stream.read(tarfile.BLOCKSIZE)):
                        return kind
        if _is_tar(start):
            return "tar"
        if zipfile.is_zipfile(path):  # one that unpacks itself starts with a program
            return "zip"
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{path} is damaged, or not {SUPPORTED} ({error}); get it anew") from error
    except OSError as error:
        if error.errno is None:  # a decompressor's word, not the system's
            raise UserError(f"{path} is damaged, or not {SUPPORTED} ({error}); get it anew") from error
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    raise UserError(f"{path} is not {SUPPORTED}; give one of these, or the folder it was unpacked to")


def decompressed(file: IO[bytes], kind: Kind) -> IO[bytes]:
    """The tar stream inside of an open archive; it holds no more than a few blocks in memory."""
    if kind == "tar.gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file, mode="rb"))
    if kind == "tar.xz":
        return lzma.LZMAFile(file, "rb")
    if kind == "tar.bz2":
        return bz2.BZ2File(file, "rb")
    return file


def _is_tar(block: bytes) -> bool:
    if block == bytes(tarfile.BLOCKSIZE):  # the end mark of an empty archive
        return True
    try:
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except tarfile.TarError:
        return False
    return True
