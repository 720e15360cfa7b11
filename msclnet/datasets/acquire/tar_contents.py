"""The wanted members of a tar archive, compressed or not."""

import lzma
import tarfile
import zlib
from pathlib import Path
from typing import IO

from msclnet.datasets.acquire.archive_kind import Kind, decompressed
from msclnet.datasets.acquire.contents import joined
from msclnet.datasets.acquire.files import FULL, byte_bar
from msclnet.datasets.acquire.limits import Meter
from msclnet.datasets.acquire.selection import Selection
from msclnet.datasets.acquire.tar_stream import ForwardReader, members
from msclnet.errors import UserError

DAMAGE = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OverflowError, ValueError)


class TarContents:
    """Copies the wanted members to a spool file in one pass: a compressed stream cannot be read at random.

    Args:
        path: The archive.
        kind: How it is compressed.
        spool: An empty file, open for writing and reading.
        selection: Which members are wanted.
        meter: Counts the whole stream, unwanted members included.
    """

    def __init__(
        self, path: Path, kind: Kind, *, spool: IO[bytes], selection: Selection, meter: Meter
    ) -> None:
        self.spool = spool
        self.sizes: dict[str, int] = {}
        self.starts: dict[str, int] = {}
        place = str(path)
        try:
            with (
                path.open("rb") as file,
                decompressed(file, kind) as stream,
                byte_bar(path.stat().st_size, desc=f"unpack {path.name}") as bar,
            ):
                for member, parts in members(ForwardReader(stream, meter)):
                    place = f"{path}: {member.name!r}"
                    if member.isdir():
                        selection.count()
                    elif name := selection.take(member.name, regular=member.isreg()):
                        data = joined(parts, name=name, meter=meter)
                        self.starts[name], self.sizes[name] = spool.tell(), len(data)
                        spool.write(data)
                    place = f"{path}, after {member.name!r},"
                    bar.update(file.tell() - bar.n)
        except DAMAGE as error:
            raise UserError(f"{place} is damaged or incomplete ({error}); get the archive anew") from error
        except OSError as error:
            if error.errno in FULL:  # the spool's disk
                raise
            raise UserError(f"{place} is damaged ({error}); get the archive anew") from error

    def read(self, name: str) -> bytes:
        self.spool.seek(self.starts[name])
        return self.spool.read(self.sizes[name])
