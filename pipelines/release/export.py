"""The trained network for other programs, as ONNX and OpenVINO's format: `msclnet export`."""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msclnet.datasets.records import Split
from msclnet.embedding import load_network, torch_embedder
from msclnet.errors import UserError
from msclnet.export.backends import ONNX, OPENVINO, Agreement, Format, agreement
from msclnet.export.onnx import OPSET, OUTPUTS, onnx_graph
from msclnet.export.release_file import LOWEST_COSINE, MODALITIES
from msclnet.export.stream import is_installed, optional
from msclnet.images.table import file_digest, open_array, read_manifest
from msclnet.models.network import MSCLNet
from pipelines import settings
from pipelines.stages import paths
from pipelines.stages.mlflow_run import joined_run, read_run

ENDINGS = (".onnx", ".xml", ".bin")
REPORT = "export.json"
SPLITS: tuple[Split, ...] = ("val", "test")
IMAGES = 32  # of each modality and split that every file is checked on
OUT = Path("results/export")


def export(out: Path) -> None:
    """results/train, data/processed -> visible.* and infrared.* in a folder, and in MLflow."""
    for path in (paths.NETWORK_SPEC, paths.WEIGHTS):
        if not path.is_file():
            raise UserError(f"{path}: no such file, so there is nothing to export; run `dvc repro train`")
    read_run()  # before minutes of work
    report = write_files(out)
    for name, compared in report["agreement"].items():
        print(
            f"{out / name}: cosine to the network at least {compared['cosine']:.7f} ({compared['images']} images)"
        )
    log(out, report)


def log(out: Path, report: dict[str, Any]) -> None:
    """Log files and cosines to the training's MLflow run."""
    versions = {f"{name}_version": version for name, version in report["versions"].items()}
    with joined_run("export", {"opset": report["opset"], **versions}) as tracker:
        cosines = {f"export/{name}/cosine": found["cosine"] for name, found in report["agreement"].items()}
        tracker.log_metrics(cosines, step=0)
        for name in (*report["files"], "export.json"):
            tracker.log_artifact(out / name, "export")


def write_files(out: Path) -> dict[str, Any]:
    """Write graphs and export.json, in the place of a former export's when all agree with the network; the report."""
    formats = _formats()
    settings.device()  # sets the number of threads; all is done on the CPU
    network = load_network(paths.WEIGHTS, paths.read_json(paths.NETWORK_SPEC, stage="train"))
    with _unfinished(out) as folder:
        agreements: dict[str, Any] = {}
        for modality in MODALITIES:
            images = real_images(modality)
            for name, found in _write_stream(folder, network, images, modality, formats):
                agreements[name] = asdict(found)
        report = {
            "weights_sha256": file_digest(paths.WEIGHTS),
            "input": {
                "images": f"uint8 RGB (N, {images.shape[1]}, {images.shape[2]}, 3), as stored, 0 to 255"
            },
            "outputs": dict.fromkeys(OUTPUTS, f"float32 (N, {network.backbone.channels}), unnormalised"),
            "opset": OPSET,
            "versions": {name: version(name) for name in ("torch", "onnx", *(f.package for f in formats))},
            "agreement": agreements,
            "files": {path.name: file_digest(path) for path in sorted(folder.iterdir())},
        }
        (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        _move_in(folder, out)
    return report


def real_images(modality: str) -> np.ndarray:
    """Validation and test images of one modality, evenly spread: uint8 RGB (N, H, W, 3)."""
    parts = []
    for split in SPLITS:
        rows = np.flatnonzero(read_manifest(paths.MANIFEST, split).infrared == MODALITIES[modality])
        chosen = np.linspace(0, len(rows) - 1, min(len(rows), IMAGES)).round().astype(int)
        parts.append(open_array(paths.images_of(split))[rows[chosen]])
    images = np.concatenate(parts)
    if not len(images):
        raise UserError(f"{paths.MANIFEST}: no {modality} image in val and test to check the export on")
    return images


def _formats() -> Sequence[Format]:
    for package in ("onnx", "onnxscript", ONNX.package):
        optional(package, purpose="the export")
    if is_installed(OPENVINO.package):
        return (ONNX, OPENVINO)
    print("the package openvino is not installed, so its format is left out")
    return (ONNX,)


def _write_stream(
    folder: Path, network: MSCLNet, images: np.ndarray, modality: str, formats: Sequence[Format]
) -> Iterator[tuple[str, Agreement]]:
    """Write one modality in all formats; yields each file's name and its agreement with the network."""
    infrared = MODALITIES[modality]
    embed, threads = torch_embedder(network), torch.get_num_threads()
    graph = onnx_graph(network, infrared=infrared, height=images.shape[1], width=images.shape[2])
    for each in formats:
        path = folder / f"{modality}{each.ending}"
        each.write(graph, path)
        found = agreement(
            lambda part: embed(part, infrared=infrared), each.load(path, threads=threads), images
        )
        if not found.cosine >= LOWEST_COSINE:  # also where it is no number
            raise UserError(
                f"{path.name} does not compute what the network computes: on {found.images} {modality} images of "
                f"{' and '.join(SPLITS)} the lowest cosine is {found.cosine:.6f} instead of {LOWEST_COSINE}; nothing "
                f"was written. Install the versions of constraints.txt ({each.package} is {version(each.package)})"
            )
        yield path.name, found


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """A temporary folder on the file system of `out`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=out, prefix=".new-")
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror}); give another folder") from error
    with folder as name:
        yield Path(name)


def _move_in(folder: Path, out: Path) -> None:
    """Replace the files of a former export."""
    former = [out / f"{modality}{ending}" for modality in MODALITIES for ending in ENDINGS]
    for path in (out / REPORT, *former):
        if not (folder / path.name).exists():
            path.unlink(missing_ok=True)
    for path in sorted(folder.iterdir()):
        os.replace(path, out / path.name)
