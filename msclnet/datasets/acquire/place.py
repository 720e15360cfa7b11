"""Where a user's copy of a data set is: a folder, an archive, or an address."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msclnet.datasets.acquire.address import check_address, scheme_of, shown
from msclnet.datasets.acquire.archive_kind import Kind, archive_kind
from msclnet.errors import UserError

WEB = ("http", "https")


@dataclass(frozen=True)
class Folder:
    """A folder with the files themselves."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Archive:
    """An archive on this machine.

    Attributes:
        path: The file.
        kind: What its content says.
        sha256: What its sha256 must be, 64 hex digits in lower case; empty where none was declared.
    """

    path: Path
    kind: Kind
    sha256: str = ""

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Address:
    """An archive elsewhere: http(s), or whatever `dvc get-url` reads.

    Attributes:
        url: Never to be shown: it may hold a password. `str()` of the place is safe.
        sha256: What the archive's sha256 must be, 64 hex digits in lower case.
    """

    url: str = field(repr=False)
    sha256: str

    def __str__(self) -> str:
        return shown(self.url)


Place = Folder | Archive | Address


def read_place(text: str, *, sha256: str = "") -> Place:
    """Understand what a user gave; nothing is fetched.

    Args:
        text: Path of a folder or of a zip, tar, tar.gz, tar.xz or tar.bz2 archive, `file://` in front or not; an
            http(s) URL; or another URL that DVC reads: s3://, gs://, ssh://, remote://NAME/path.
        sha256: The archive's sha256 in hex; must be given with a URL, may be given with an archive.

    Raises:
        UserError: There is nothing there, it is no folder and no archive, or the sha256 is missing or no sha256.
    """
    text, sha256 = text.strip(), sha256.strip().lower()
    if not text:
        raise UserError("no place of the images given; give a folder, an archive or an address")
    scheme = scheme_of(text)
    if sha256 and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise UserError(
            f"{sha256!r} is not a sha256, which has 64 hex digits; `sha256sum FILE` prints that of an archive"
        )
    if scheme and scheme != "file":
        return _address(text, scheme, sha256)
    try:
        return _local(Path(unquote(urlsplit(text).path) if scheme else text).expanduser().absolute(), sha256)
    except (OSError, RuntimeError) as error:  # RuntimeError: ~ of a user who does not exist
        raise UserError(f"{text} cannot be read: {getattr(error, 'strerror', error)}") from error


def _local(path: Path, sha256: str) -> Folder | Archive:
    if path.is_dir():
        if sha256:
            raise UserError(f"{path} is a folder, and a sha256 belongs to an archive; leave it empty")
        return Folder(path)
    if not path.exists():
        raise UserError(
            f"{path}: no such file or folder; give the data set's folder or archive, or its address"
        )
    if not path.is_file():
        raise UserError(f"{path} is neither a file nor a folder")
    return Archive(path, archive_kind(path), sha256)


def _address(url: str, scheme: str, sha256: str) -> Address:
    check_address(url)
    secret = ":" in url.partition("://")[2].rpartition("@")[0] or any(mark in url for mark in "?#")
    if scheme not in WEB and secret:
        # DVC is given it on a command line, which every user of the machine can read, and shows it in its messages.
        raise UserError(
            f"{shown(url)}: a password, or a token behind a ? or #, does not belong into this address; make it a DVC "
            "remote (`dvc remote add`, `dvc remote modify --local NAME password ...`) and give remote://NAME/path"
        )
    if not sha256:
        raise UserError(
            f"{shown(url)}: an address needs the sha256 of its archive, so that what arrives can be checked; "
            "`sha256sum FILE` prints it where the archive is"
        )
    return Address(url, sha256)
