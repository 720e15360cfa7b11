"""Paths of all stage inputs and outputs, relative to the project root, where DVC starts the stages.

DVC links its cache to the workspace: an output may be the very file in the cache, and a file opened for writing in
place would change the cache. `fresh` unlinks it first.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msclnet.errors import UserError

if TYPE_CHECKING:
    from pipelines.stages.params import Params

PARAMS = Path("params.yaml")

DATA = Path("data")
DOWNLOAD_REPORT = Path("results/download/report.json")
RAW = Path("data/raw/images.zip")

PROCESSED = Path("data/processed")
MANIFEST = PROCESSED / "manifest.csv"
PREPROCESS_REPORT = Path("results/preprocess/report.json")
PREPROCESS_PAGE = Path("results/preprocess/report.html")
AUGMENTATION_PICTURE = Path("results/preprocess/augmentation.png")

TRAIN = Path("results/train")
WEIGHTS = TRAIN / "model.safetensors"
NETWORK_SPEC = TRAIN / "network.json"
HISTORY = TRAIN / "history.csv"
RUN = TRAIN / "run.json"
CALIBRATION = TRAIN / "calibration.json"  # written by stage evaluate: it belongs to the weights
DIVERGED = TRAIN / "diverged.json"  # only after a training that diverged; no output for DVC

EMBEDDINGS = Path("results/embeddings")
METRICS = Path("results/metrics/metrics.json")
METRICS_SUMMARY = Path("results/metrics/summary.json")
METRICS_REPORT = Path("results/metrics/report.json")
PROMOTION = Path("results/metrics/promotion.json")
PROMOTION_PAGE = Path("results/metrics/promotion.html")
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


def check_outputs_inside() -> None:
    """Refuse links of data/ and results/ out of the project: DVC refuses them too, but only after the stage."""
    project = Path.cwd().resolve()
    for folder in (DATA, RAW.parent, PROCESSED, Path("results")):
        if not (place := folder.resolve()).is_relative_to(project):
            raise UserError(
                f"{folder} leads to {place}, outside of the project, where DVC keeps no results. Make it a folder of "
                "the project; put DVC's cache on the other disk (`dvc cache dir --local PATH`, `dvc config --local "
                "cache.type symlink`) and link raw images below data/source"
            )


def check_permutations(params: "Params") -> None:
    """Refuse missing gallery permutations where evaluate will need them: before a training, not after it."""
    place = Path(params.evaluate.permutations)
    needed = params.download.dataset == "sysu-mm01" and "official" in params.evaluate.samplers
    if needed and not place.is_file():
        raise UserError(
            f"evaluate.permutations: {place}: no such file, but evaluate.samplers asks for 'official'; link "
            "rand_perm_cam.mat, which comes with SYSU-MM01's evaluation code and not with its images, there, or take "
            "the sampler 'agw'"
        )


def link_raw_data(project: Path, copy: Path) -> None:
    """Link what git ignores in data/source and data/permutations into a copy of the project."""
    for folder in (DATA / "source", DATA / "permutations"):
        for old in (copy / folder).glob("*"):
            if old.is_symlink():
                old.unlink()
        for entry in (project / folder).glob("*"):
            target = copy / folder / entry.name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(entry.resolve())


def write_json(path: Path, values: Any) -> None:
    """Write values as indented JSON to a fresh file."""
    fresh(path).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path, *, stage: str) -> Any:
    """Values of a JSON file that `stage` writes."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run `dvc repro {stage}`") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); run `dvc repro {stage} --force`") from error


def read_arrays(path: Path, *, stage: str) -> dict[str, np.ndarray]:
    """All arrays of a .npz file that `stage` writes; no pickle is loaded, for another user's cache may have it."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run `dvc repro {stage}`") from error
    # MemoryError: a header may declare an array of any size.
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}); run `dvc repro {stage} --force`") from error
