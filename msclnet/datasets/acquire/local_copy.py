"""The folder or archive on this machine behind any place."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from msclnet.datasets.acquire.archive_kind import archive_kind
from msclnet.datasets.acquire.dvc_url import fetch_by_dvc
from msclnet.datasets.acquire.fetch import fetch
from msclnet.datasets.acquire.files import sha256_of
from msclnet.datasets.acquire.place import WEB, Address, Archive, Folder, Place
from msclnet.errors import UserError


def local_copy(place: Place, workspace: Path) -> Folder | Archive:
    """The place itself, or the archive fetched from an address.

    Args:
        place: From `read_place`.
        workspace: Where a fetched archive is kept, named after its sha256; a second call finds it there.

    Raises:
        UserError: It cannot be fetched, is no archive, or its sha256 is not the declared one.
    """
    if isinstance(place, Address):
        path = workspace / f"{place.sha256[:16]}-{_file_name(place.url)}"
        get = fetch if urlsplit(place.url).scheme.lower() in WEB else fetch_by_dvc
        get(place.url, path, sha256=place.sha256)
        return Archive(path, archive_kind(path), place.sha256)
    if isinstance(place, Archive) and place.sha256:
        check_digest(place, sha256_of(place.path))
    return place


def check_digest(place: Archive, found: str) -> None:
    """Compare an archive's sha256 with the declared one, if any.

    Raises:
        UserError: They differ.
    """
    if place.sha256 and found != place.sha256:
        raise UserError(
            f"{place}: its sha256 is {found}, but {place.sha256} was declared; the archive is damaged or another one"
        )


def _file_name(url: str) -> str:
    name = urlsplit(url).path.rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[-80:] or "archive"
