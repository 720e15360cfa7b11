"""The wanted files of a place, read one at a time in any order."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from msclnet.datasets.acquire.limits import Meter
from msclnet.datasets.acquire.selection import Selection
from msclnet.datasets.archive import walk
from msclnet.errors import UserError


class Contents(Protocol):
    """What is to be packed.

    Attributes:
        sizes: Bytes of each wanted file by its safe name, as far as headers can be believed.
    """

    sizes: dict[str, int]

    def read(self, name: str) -> bytes:
        """All bytes of one wanted file.

        Raises:
            UserError: It cannot be read, is damaged, or breaks a limit.
        """
        ...


class FolderContents:
    """The wanted files below a folder; the links that a user's own folder is made of are followed."""

    def __init__(self, root: Path, selection: Selection, meter: Meter) -> None:
        self.root = root
        self.meter = meter
        self.sizes: dict[str, int] = {}
        self.raw_names: dict[str, str] = {}
        for raw, status in sorted(walk(root), key=lambda found: found[0]):
            regular = status is not None and stat.S_ISREG(status.st_mode)
            if status is None and selection.wanted(raw):
                raise UserError(
                    f"{root / raw} is a link to {os.readlink(root / raw)!r}, where there is nothing; mount the disk or "
                    "repair the link"
                )
            name = selection.take(raw, regular=regular)
            if name is not None and status is not None:
                self.raw_names[name] = raw
                self.sizes[name] = status.st_size
                meter.check_file(name, status.st_size)

    def read(self, name: str) -> bytes:
        path = self.root / self.raw_names[name]
        try:
            with path.open("rb") as file:
                data = file.read(self.meter.limits.file_bytes + 1)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        self.meter.add_file(name, len(data))
        return data


def joined(parts: Iterable[bytes], *, name: str, meter: Meter) -> bytes:
    """The bytes of one decompressed file, counted part by part.

    Raises:
        UserError: They break a limit.
    """
    gathered = bytearray()
    for part in parts:
        gathered += part
        meter.check_file(name, len(gathered))
    meter.add_file(name, len(gathered))
    return bytes(gathered)
