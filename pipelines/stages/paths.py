"""Paths of all stage inputs and outputs, relative to the project root, where DVC starts the stages.

Writing a stage's outputs safely.

DVC links its cache to the workspace: an output may be the very file in the cache, and a file opened for writing in
place would change the cache behind DVC's back.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from msclnet.errors import UserError

# Where the stages read and write, relative to the project's root, where DVC starts them.

PARAMS = Path("params.yaml")

SOURCE = Path("data/source/images.json")
PERMUTATIONS = Path("data/permutations/images.json")
DOWNLOAD_REPORT = Path("results/download/report.json")
RAW = Path("data/raw/images.zip")

PROCESSED = Path("data/processed")
MANIFEST = PROCESSED / "manifest.csv"
PREPROCESS_REPORT = Path("results/preprocess/report.json")
AUGMENTATION_PICTURE = Path("results/preprocess/augmentation.png")

TRAIN = Path("results/train")
WEIGHTS = TRAIN / "model.safetensors"
NETWORK_SPEC = TRAIN / "network.json"
HISTORY = TRAIN / "history.csv"
RUN = TRAIN / "run.json"
DIVERGED = TRAIN / "diverged.json"  # only after a training that diverged; no output for DVC

EMBEDDINGS = Path("results/embeddings")
METRICS = Path("results/metrics/metrics.json")
METRICS_SUMMARY = Path("results/metrics/summary.json")
METRICS_REPORT = Path("results/metrics/report.json")
CMC = Path("results/metrics/cmc.csv")
FIGURES = Path("results/figures")


def images_of(split: str) -> Path:
    """The split's uint8 array (N, H, W, 3)."""
    return PROCESSED / f"images_{split}.npy"


def embeddings_of(split: str) -> Path:
    """The split's features with their manifest rows."""
    return EMBEDDINGS / f"{split}.npz"


def fresh(path: Path) -> Path:
    """A path that is safe to write to: its folder exists, and a former file there is unlinked, not overwritten."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def write_json(path: Path, values: Any) -> None:
    """Write values as indented JSON to a fresh file."""
    fresh(path).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


# Reads .npz files that stages wrote, and that may have come from somebody else's cache.


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
