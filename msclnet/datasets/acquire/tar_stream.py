"""A tar stream that is read once, from its beginning to its end."""

import io
import tarfile
from collections.abc import Iterator
from typing import IO

from msclnet.datasets.acquire.limits import Meter

CHUNK = 2**20
MOST_AT_ONCE = 2**22  # bytes; more than the extended header of any honest member


class ForwardReader(io.BufferedIOBase):
    """What tarfile reads from: going back is an error, going on means reading, and each byte is counted.

    Args:
        stream: Decompressed bytes.
        meter: Counts them.
    """

    def __init__(self, stream: IO[bytes], meter: Meter) -> None:
        self.stream = stream
        self.meter = meter
        self.position = 0
        self.last = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes; fewer only at the stream's end.

        Raises:
            tarfile.ReadError: More than a sound archive asks for at once. tarfile reads extended headers whole.
        """
        if size is None or not 0 <= size <= MOST_AT_ONCE:
            raise tarfile.ReadError(f"a header of {size} bytes")
        parts = []
        while size > 0 and (part := self.stream.read(size)):
            self.meter.decompress(len(part))
            parts.append(part)
            size -= len(part)
        self.last = b"".join(parts)
        self.position += len(self.last)
        return self.last

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Read on up to a position.

        Raises:
            tarfile.ReadError: It lies behind, as in an archive whose sizes are made up.
        """
        if whence != io.SEEK_SET or offset < self.position:
            raise tarfile.ReadError("a header that leads backwards")
        while self.position < offset and self.read(min(CHUNK, offset - self.position)):
            pass
        return self.position

    def check_end(self) -> None:
        """Check, after tarfile has found no further member, that the archive ends here.

        tarfile also stops without a word at a header that is damaged or cut off. Reading on to the stream's end lets
        the decompressor compare its checksum.

        Raises:
            tarfile.ReadError: The mark of the end is missing, or there is something behind it.
        """
        if self.last != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"no sound header at byte {self.position - len(self.last)}")
        while part := self.read(CHUNK):
            if part.count(0) != len(part):
                raise tarfile.ReadError("something follows behind its end")


def members(reader: ForwardReader) -> Iterator[tuple[tarfile.TarInfo, Iterator[bytes]]]:
    """All members in their order, each with its content in parts, to be read before the next one or not at all.

    Raises:
        tarfile.TarError: The archive is damaged or incomplete. Decompressors raise their own errors.
    """
    with _Archive.open(fileobj=reader, mode="r:") as archive:
        while (member := archive.next()) is not None:
            yield member, _parts(archive, member)
            archive.members.clear()  # tarfile keeps them all; a long archive would fill the memory
    reader.check_end()


class _Archive(tarfile.TarFile):
    members: list[tarfile.TarInfo]  # known to everybody but the type stubs


def _parts(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    file = archive.extractfile(member)
    assert file is not None, "only plain files are asked for their content"
    while part := file.read(CHUNK):
        yield part
