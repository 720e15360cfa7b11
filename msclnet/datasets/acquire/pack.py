"""The wanted files of a place, as one archive that nobody has to unpack."""

import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from msclnet.datasets.acquire.contents import Contents, FolderContents
from msclnet.datasets.acquire.files import check_space, disk_full_told, replacing
from msclnet.datasets.acquire.limits import Limits, Meter
from msclnet.datasets.acquire.local_copy import local_copy
from msclnet.datasets.acquire.place import Archive, Folder, Place
from msclnet.datasets.acquire.selection import Selection
from msclnet.datasets.acquire.tar_contents import TarContents
from msclnet.datasets.acquire.zip_contents import ZipContents
from msclnet.progress import progress_bar

DAY = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can name
PER_MEMBER = 128  # bytes of headers for each member beside its name, rounded up


def pack(
    place: Place,
    destination: Path,
    *,
    wanted: Callable[[str], bool],
    workspace: Path,
    limits: Limits | None = None,
    expected: str = "",
) -> int:
    """Write the wanted files of a folder or an archive into a zip archive without compression.

    The same files give the same bytes, whatever they came in. The destination appears whole or not at all; its
    former content stays until then. Nothing is ever unpacked under a name of the archive's choice.

    Args:
        place: From `read_place`. What an address names is fetched into the workspace first and stays there.
        destination: The zip archive; its folder is made when missing.
        wanted: Whether a file is needed, by its name below the folder or in the archive, with `/`.
        workspace: Folder for what is fetched.
        limits: What an archive may hold and unpack to; None: `Limits()`.
        expected: The wanted files in words, for the message when there are none.

    Returns:
        The number of files.

    Raises:
        UserError: Nothing is wanted; the archive is damaged, unsafe, encrypted or too large; its sha256 is not the
            declared one; a file cannot be read; the disk is full.
    """
    local = local_copy(place, workspace)
    limits = limits or Limits()
    destination.parent.mkdir(parents=True, exist_ok=True)
    selection = Selection(str(place), wanted=wanted, limits=limits)
    with (
        disk_full_told(destination),
        replacing(destination) as file,
        _opened(local, selection, limits, destination.parent) as contents,
    ):
        if not contents.sizes:
            raise selection.nothing_found(expected)
        _write(file, contents, folder=destination.parent)
        return len(contents.sizes)


@contextmanager
def _opened(
    place: Folder | Archive, selection: Selection, limits: Limits, scratch: Path
) -> Iterator[Contents]:
    if isinstance(place, Folder):
        yield FolderContents(place.path, selection, Meter(selection.source, limits, stored_bytes=None))
        return
    meter = Meter(selection.source, limits, stored_bytes=place.path.stat().st_size)
    if place.kind == "zip":
        with closing(ZipContents(place.path, selection, meter)) as contents:
            yield contents
        return
    # Without a name, so that not even a killed process leaves it behind.
    with tempfile.TemporaryFile(dir=scratch) as spool:
        yield TarContents(place.path, place.kind, spool=spool, selection=selection, meter=meter)


def _write(file: IO[bytes], contents: Contents, *, folder: Path) -> None:
    names = sorted(contents.sizes)
    headers = sum(2 * len(name.encode()) + PER_MEMBER for name in names)
    check_space(folder, sum(contents.sizes.values()) + headers)
    with (
        zipfile.ZipFile(file, "w") as archive,
        progress_bar(total=len(names), desc="pack", unit="file") as bar,
    ):
        for name in names:
            # A header that says nothing of the day, the machine or the archive that the file came from.
            member = zipfile.ZipInfo(name, date_time=DAY)
            member.create_system = 3
            member.external_attr = 0o644 << 16
            archive.writestr(member, contents.read(name), compress_type=zipfile.ZIP_STORED)
            bar.update()
