"""Reads MATLAB files, with a bound on what they unpack to.

The parts of a MAT-file of version 5 may be compressed; their layout is MathWorks' "MAT-File Format", chapter 1.
"""

import struct
import zlib
from pathlib import Path
from typing import Any

MOST_BYTES = 2**26  # of the file; SYSU-MM01's permutations have less than a million
MOST_UNPACKED = 2**28
HEADER = 128
COMPRESSED = 15


def load_mat(path: Path) -> dict[str, Any]:
    """The variables of a MAT-file by name, as scipy gives them. Nothing in such a file is ever run.

    Raises:
        ValueError: The file is too large, unpacks to too much, or is damaged.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        _check_unpacked(data)
        return loadmat(path)
    # MemoryError: a part may declare any size. The others: what scipy's reader stumbles over.
    except (
        ValueError, KeyError, NotImplementedError, AttributeError, TypeError, IndexError, OSError, MemoryError,
        OverflowError, struct.error, zlib.error, MatReadError,
    ) as error:  # fmt: skip
        raise ValueError(f"no MATLAB file that can be read: {type(error).__name__}: {error}") from error


def _check_unpacked(data: bytes) -> None:
    """Unpack each part once, a little at a time, and count."""
    order = ">" if data[HEADER - 2 : HEADER] == b"MI" else "<"
    place, total = HEADER, 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}2I", data, place)
        place += 8
        if kind == COMPRESSED:
            reader, rest = zlib.decompressobj(), data[place : place + size]
            while rest and not reader.eof:
                total += len(reader.decompress(rest, 2**20))
                rest = reader.unconsumed_tail
                if total > MOST_UNPACKED:
                    raise ValueError(f"it unpacks to more than {MOST_UNPACKED} bytes")
        place += size
