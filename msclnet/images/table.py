"""The manifest of the preprocessed images, and their memory maps."""

import csv
import hashlib
import io
import tokenize
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msclnet.datasets.records import SPLITS, Record, Split
from msclnet.errors import UserError

COLUMNS = ("split", "row", "identity", "camera", "modality", "path", "sha256")
END = "end"  # in the place of a split: the last line


@dataclass(frozen=True)
class Measures:
    """What is known of an image's pixels."""

    height: int  # of the file, in pixels
    width: int  # of the file, in pixels
    brightness: float  # mean gray value, 0 to 255
    sharpness: float  # variance of the Laplacian of the gray values at the size that is trained on, >= 0
    fingerprint: int  # perceptual hash, 64 bits
    thumbnail: bytes  # gray values, 16 x 16 bytes


@dataclass(frozen=True)
class Entry:
    """A record with its source file's checksum and, where they are known, the measures of its pixels."""

    record: Record
    sha256: str
    measures: Measures | None = None


@dataclass(frozen=True)
class Rows:
    """One split's rows as columns; row i of each describes row i of the split's array."""

    identities: np.ndarray  # int64 (N,)
    cameras: np.ndarray  # int64 (N,)
    infrared: np.ndarray  # bool (N,)
    paths: np.ndarray  # str (N,)

    def __len__(self) -> int:
        return len(self.identities)


def write_manifest(path: Path, entries: Iterable[Entry]) -> None:
    """Write the entries; each split's rows are numbered in the given order.

    The last line is `end`, the number of entries and the sha256 of all that stands before it, so that no damage and no
    missing line passes for data.
    """
    numbers = dict.fromkeys(SPLITS, 0)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in entries:
        r = entry.record
        writer.writerow((r.split, numbers[r.split], r.identity, r.camera, r.modality, r.path, entry.sha256))
        numbers[r.split] += 1
    body = text.getvalue().encode()
    path.write_bytes(body + _last_line(body, sum(numbers.values())))


def read_manifest(path: Path, split: Split) -> Rows:
    """Rows of one split; see `read_splits`."""
    return read_splits(path)[split]


def read_splits(path: Path) -> dict[Split, Rows]:
    """Rows of each split; UserError where the file is missing, is no manifest, or is not as it was written."""
    try:
        lines = _lines(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run `dvc repro preprocess`") from error
    except ValueError as error:
        raise UserError(f"{path} is no manifest ({error!r}); run `dvc repro preprocess --force`") from error
    return {split: _rows([line for line in lines if line["split"] == split]) for split in SPLITS}


def _last_line(body: bytes, count: int) -> bytes:
    return f"{END},{count},,,,,{hashlib.sha256(body).hexdigest()}\n".encode()


def _lines(data: bytes) -> list[dict[str, str]]:
    """The table without its last line, which is checked first: nothing is made of bytes that were not written."""
    body, mark, last = data.rpartition(f"\n{END},".encode())
    body += b"\n"
    count = int(last.partition(b",")[0]) if mark else -1
    if data != body + _last_line(body, count):
        raise ValueError("it is torn or was changed: its last line does not agree with the others")
    reader = csv.DictReader(io.StringIO(body.decode(), newline=""))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ValueError(f"columns {reader.fieldnames}")
    lines = list(reader)
    if len(lines) != count:
        raise ValueError(f"{len(lines)} rows, expected {count}")
    return lines


def _rows(lines: Sequence[dict[str, str]]) -> Rows:
    return Rows(
        identities=np.array([int(line["identity"]) for line in lines], dtype=np.int64),
        cameras=np.array([int(line["camera"]) for line in lines], dtype=np.int64),
        infrared=np.array([line["modality"] == "infrared" for line in lines], dtype=bool),
        paths=np.array([line["path"] for line in lines], dtype=str),
    )


def file_digest(path: Path) -> str:
    """sha256 of a manifest, and with it of the data set: it holds every source file's checksum."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run `dvc repro preprocess`") from error


def open_array(path: Path) -> np.ndarray:
    """Memory map of a split's images, uint8 (N, H, W, 3), read-only; UserError where the file is none."""
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
