"""The wanted files of a folder or an archive, as one archive that is read in place."""

import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from msclnet.datasets.archive import Source, UnreadableFileError, open_source
from msclnet.errors import UserError
from msclnet.files import replaced_file
from msclnet.progress import progress_bar

MOST_BYTES = 128 * 2**30  # of all packed files
DAY = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can name
ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".rar", ".7z", ".zst")


def pack(
    path: Path,
    destination: Path,
    *,
    wanted: Callable[[str], bool],
    check: Callable[[Source], object] = lambda source: None,
    expected: str = "",
    added: Mapping[str, bytes] | None = None,
) -> int:
    """Write the wanted files of a folder or an archive into one zip archive without compression; returns their number.

    The same files give the same bytes, whatever they came in. The destination appears whole or not at all. Members are
    streamed from one archive into the other under `own_name`: nothing is ever unpacked.
    `check` gets the opened source before anything is written; `expected` names the wanted files in messages. Files
    that are `added` by name stand first.

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
    total = 0
    with (
        replaced_file(destination) as unfinished,
        zipfile.ZipFile(unfinished, "w") as archive,
        progress_bar(total=len(names), desc="pack", unit="file") as bar,
    ):
        for name, data in (added or {}).items():
            _add(archive, name, data)
        for name in names:
            data = _read_for_packing(source, name, path)
            total += len(data)
            if total > MOST_BYTES:
                raise UserError(
                    f"{path} holds more than {MOST_BYTES} bytes of images; link the data set alone"
                )
            _add(archive, name, data)
            bar.update()
    return len(names)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """With a header that says nothing of the day, the machine or the archive that the file came from."""
    member = zipfile.ZipInfo(name, date_time=DAY)
    member.create_system = 3
    member.external_attr = 0o644 << 16
    archive.writestr(member, data, compress_type=zipfile.ZIP_STORED)


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
