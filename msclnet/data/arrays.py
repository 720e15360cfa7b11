"""Opens a split's images as one memory map."""

import tokenize
import zipfile
from pathlib import Path

import numpy as np

from msclnet.errors import UserError


def open_array(path: Path) -> np.ndarray:
    """Memory map of a split's images, uint8 (N, H, W, 3), read-only.

    Raises:
        UserError: The file is missing or is no such array.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run `dvc repro preprocess`") from error
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); run `dvc repro preprocess --force`") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} is an archive of arrays; run `dvc repro preprocess --force`")
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
        raise UserError(
            f"{path} holds {array.dtype} {array.shape} instead of uint8 (N, H, W, 3); "
            "run `dvc repro preprocess --force`"
        )
    return array
