"""Reads .npz files that stages wrote, and that may have come from somebody else's cache."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from msclnet.errors import UserError


def read_arrays(path: Path, *, stage: str) -> dict[str, np.ndarray]:
    """All arrays of a .npz file; no pickle in it is ever loaded.

    The stages store arrays uncompressed. A compressed one is refused: it could unpack to any size.

    Args:
        path: The file.
        stage: Who writes it, for messages.

    Raises:
        UserError: The file is missing, damaged, compressed, or holds something else than plain arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("its arrays are compressed, which this project never does")
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run `dvc repro {stage}`") from error
    # MemoryError: a header may declare an array of any size.
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}); run `dvc repro {stage} --force`") from error
