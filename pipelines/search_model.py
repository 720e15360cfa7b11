"""Which network a search uses: the pipeline's own, one in a folder, or a registered one."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from msclnet.data.manifest import file_digest
from msclnet.errors import UserError
from msclnet.search import SearchModel
from pipelines import machine, places

REGISTERED = "models:/"
Size = tuple[int, int]
"""Height and width in pixels."""


def open_model(address: str, *, size: Size | None = None) -> SearchModel:
    """Load a network.

    Args:
        address: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or a folder with model.safetensors and network.json.
        size: Of the images, for a folder that does not tell it.

    Raises:
        UserError: There is no such model, its files are damaged, or its image size is not known or another one.
    """
    return _registered(address, size) if address.startswith(REGISTERED) else _from_folder(Path(address), size)


def _registered(address: str, size: Size | None) -> SearchModel:
    from msclnet.tracking.loading import load_registered

    machine.device()  # sets the number of threads; a registered model runs on the CPU
    model = load_registered(address, home=machine.home())
    height, width = _agreed(size, (model.height, model.width), source=address)
    identity = {"address": address, "name": model.name, "version": model.version, "run_id": model.run_id}
    return SearchModel(model.embed, height, width, identity)


def _from_folder(folder: Path, size: Size | None) -> SearchModel:
    weights, spec_path = folder / places.WEIGHTS.name, folder / places.NETWORK_SPEC.name
    for path in (spec_path, weights):
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; run `dvc repro train`, or give --model a folder with {weights.name} and "
                f"{spec_path.name}, or a registered model such as models:/msclnet@champion"
            )
    spec = _read_json(spec_path)
    if not {"identities", "model", "synergy"} <= set(spec):
        raise UserError(f"{spec_path} does not describe a network; run `dvc repro train --force`")
    height, width = _size_beside(folder, size)

    from msclnet.embedding import embed_images
    from msclnet.serving import load_network

    device = machine.device()
    network = load_network(weights, spec, device=device)

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        return embed_images(network, images, infrared, batch=len(images), device=device)[1]

    identity = {"folder": str(folder), "weights_sha256": file_digest(weights)}
    return SearchModel(embed, height, width, identity)


def _size_beside(folder: Path, size: Size | None) -> Size:
    """From preprocess' report: in the folder itself, or where the pipeline puts it beside results/train."""
    near = places.PREPROCESS_REPORT
    for path in (folder / near.name, folder.parent / near.parent.name / near.name):
        if path.is_file():
            report = _read_json(path)
            try:
                return _agreed(size, (int(report["height"]), int(report["width"])), source=str(path))
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{path} does not tell height and width; run `dvc repro preprocess --force`"
                ) from error
    if size is None:
        raise UserError(
            f"{folder}: the size of the images is not known, {path} is missing; run `dvc repro preprocess`, or "
            "state the size that the network was trained with, such as --size 288x144"
        )
    return size


def _agreed(stated: Size | None, found: Size, *, source: str) -> Size:
    if stated is not None and stated != found:
        raise UserError(
            f"--size {stated[0]}x{stated[1]}: the network takes {found[0]}x{found[1]} ({source}); leave --size out"
        )
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); run `dvc repro {path.parent.name} --force`") from error
    return values if isinstance(values, dict) else {}
