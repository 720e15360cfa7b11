"""The wanted members of a zip archive."""

import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from msclnet.datasets.acquire.contents import joined
from msclnet.datasets.acquire.limits import Meter
from msclnet.datasets.acquire.selection import Selection
from msclnet.errors import UserError

# OSError: bz2's word for damage, the system's for a position that no file has, and a disk that fails.
DAMAGE = (
    zipfile.BadZipFile,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OverflowError,
    ValueError,
    OSError,
)
ENCRYPTED = 0x1
CHUNK = 2**20
# zipfile decompresses all that it reads of the rarer methods at once, and one byte may become thousands.
SMALL_CHUNK = 2**12


class ZipContents:
    """Reads members where they lie; nothing is written to the disk."""

    def __init__(self, path: Path, selection: Selection, meter: Meter) -> None:
        self.path = path
        self.meter = meter
        self.sizes: dict[str, int] = {}
        self.members: dict[str, zipfile.ZipInfo] = {}
        try:
            self.archive = zipfile.ZipFile(path)
        except (*DAMAGE, NotImplementedError) as error:
            raise UserError(f"{path} is damaged or incomplete ({error}); get it anew") from error
        for member in self.archive.infolist():
            # zipfile cuts a name at a NUL; the name as written must be looked at.
            raw = member.orig_filename
            if raw.replace("\\", "/").endswith("/"):
                selection.count()
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            name = selection.take(raw, regular=kind in (0, stat.S_IFREG))
            if name is not None:
                meter.check_file(name, member.file_size)
                self.members[name] = member
                self.sizes[name] = member.file_size

    def close(self) -> None:
        self.archive.close()

    def read(self, name: str) -> bytes:
        member = self.members[name]
        if member.flag_bits & ENCRYPTED:
            raise UserError(
                f"{self.path}: {name!r} is encrypted; unpack the archive with its password and give the folder"
            )
        try:
            data = joined(self._parts(member), name=name, meter=self.meter)
            if len(data) != member.file_size:
                raise EOFError(f"{len(data)} of {member.file_size} bytes")
        except NotImplementedError as error:
            raise UserError(
                f"{self.path}: {name!r}: {error}; unpack the archive and give the folder"
            ) from error
        except DAMAGE as error:
            raise UserError(
                f"{self.path}: {name!r} is damaged ({str(error) or 'it ends too early'}); get the archive anew"
            ) from error
        return data

    def _parts(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        simple = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        with self.archive.open(member) as stream:
            while part := stream.read(CHUNK if simple else SMALL_CHUNK):
                self.meter.decompress(len(part))
                yield part
