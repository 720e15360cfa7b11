"""How much an archive may unpack to. Everything is counted as it is read; no header is believed."""

from dataclasses import dataclass

from msclnet.datasets.archive import MOST_BYTES
from msclnet.errors import UserError

MIB = 2**20
GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """Far above every data set of the field, far below what fills a disk or a memory.

    Attributes:
        files: Members of any kind that a folder or an archive may have.
        file_bytes: Bytes of one wanted file; one file at a time is held in memory.
        total_bytes: Bytes of all wanted files together.
        ratio: Decompressed bytes for each byte of the archive, unwanted members of a tar archive included.
        unchecked_bytes: Decompressed bytes up to which the ratio does not matter.
    """

    files: int = 1_000_000
    file_bytes: int = MOST_BYTES
    total_bytes: int = 128 * GIB
    ratio: int = 100
    unchecked_bytes: int = 256 * MIB


class Meter:
    """Counts what comes out of one source and stops it at the limits.

    Args:
        source: How messages name the source.
        limits: Where to stop.
        stored_bytes: Size of the archive file; None for a folder, which has no ratio.
    """

    def __init__(self, source: str, limits: Limits, *, stored_bytes: int | None) -> None:
        self.source = source
        self.limits = limits
        self.stored_bytes = stored_bytes
        self.total = 0
        self.decompressed = 0

    def decompress(self, count: int) -> None:
        """Count bytes that a decompressor gave.

        Raises:
            UserError: They are too many for the size of the archive.
        """
        self.decompressed += count
        allowed = max(self.limits.unchecked_bytes, self.limits.ratio * (self.stored_bytes or 0))
        if self.stored_bytes is not None and self.decompressed > allowed:
            raise UserError(
                f"{self.source} unpacks to more than {self.limits.ratio} times its size, as an archive made to fill "
                "disks does; if you trust it, unpack it yourself and give the folder"
            )

    def check_file(self, name: str, size: int) -> None:
        """Check the bytes of one wanted file as far as they are known.

        Raises:
            UserError: They are more than one file may have.
        """
        if size > self.limits.file_bytes:
            raise UserError(
                f"{self.source}: {name!r} has more than {self.limits.file_bytes} bytes, too many for an image or a "
                "list; it is damaged or something else: take it out"
            )

    def add_file(self, name: str, size: int) -> None:
        """Count one wanted file that was read whole.

        Raises:
            UserError: The file or all files together have too many bytes.
        """
        self.check_file(name, size)
        self.total += size
        if self.total > self.limits.total_bytes:
            raise UserError(
                f"{self.source}: the wanted files have more than {self.limits.total_bytes} bytes together, "
                "more than a data set of this kind has; give the data set alone"
            )
