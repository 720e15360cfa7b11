"""`msclnet search` in a folder: which of its images show the person of a query?"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msclnet.errors import UserError
from msclnet.images.table import file_digest
from msclnet.images.user_files import ENDINGS, EmbeddedFiles, SearchModel, embed_files, find_images
from msclnet.retrieval.calibration import read_calibration, weights_digest
from msclnet.retrieval.distance import rank_gallery
from pipelines import settings
from pipelines.console import one_line, printable
from pipelines.stages import paths

MODALITIES = ("visible", "infrared")
OUT = Path("results/search")
RANKING = "ranking.json"
REGISTERED = "models:/"
CHAMPION = "models:/msclnet@champion"
SHOWN = 5  # images of each ranking that are printed
SHOWN_SCALED = 3  # images whose scaling is printed by name

Size = tuple[int, int]  # height and width in pixels


def search(
    query: Sequence[Path],
    gallery: Path,
    *,
    query_modality: str = "infrared",
    gallery_modality: str = "visible",
    top: int = 10,
    out: Path = OUT,
    model: str | None = None,
    size: str | None = None,
) -> None:
    """Rank a folder's images by their similarity to each query; write <out>/ranking.json and a picture for each.

    Args:
        query: Image files of single people, cut out as the training images are.
        gallery: Folder, searched at any depth.
        query_modality, gallery_modality: `visible` or `infrared`; never guessed.
        top: Images in a picture, 1 to 100.
        out: Folder of the results; a former search's are replaced.
        model: See `open_model`; None: see `open_default_model`.
        size: `HEIGHTxWIDTH` of the images that the network takes, for a folder that does not name it.
    """
    if not 1 <= top <= 100:
        raise UserError(f"--top {top}: give a number from 1 to 100")
    stated = _parse_size(size)
    _check_places(query, gallery, out)
    files, closed = find_images(gallery, exclude=out)
    if not files:
        raise UserError(
            f"{gallery} holds no image ({', '.join(ENDINGS)})"
            + "".join(f"\n  {each.path}: {each.reason}" for each in closed)
        )
    network = open_model(model, size=stated) if model else open_default_model(size=stated)
    queries = embed_files(query, network, infrared=query_modality == "infrared")
    if queries.unreadable:
        listed = "\n".join(f"  {each.path}: {each.reason}" for each in queries.unreadable)
        raise UserError(f"not readable as an image; give another file\n{listed}")
    found = embed_files(files, network, infrared=gallery_modality == "infrared", name=str(gallery))
    unreadable = [*found.unreadable, *closed]
    if not found.paths:
        raise UserError(
            f"{gallery}: none of the {len(files)} images is readable; the first is "
            f"{unreadable[0].path}: {unreadable[0].reason}"
        )
    scaled = queries.scaled + found.scaled
    warnings = [
        *_doubts(queries, "--query-modality", query_modality),
        *_doubts(found, "--modality", gallery_modality),
        *(f"{path}: {note}" for path, note in scaled[:SHOWN_SCALED]),
    ]
    if (more := len(scaled) - SHOWN_SCALED) > 0:
        warnings.append(f"{more} more images of more than 8 bits were scaled in the same way")
    for each in unreadable:
        print(f"left out: {one_line(each.path)}: {one_line(each.reason)}", file=sys.stderr)
    for warning in warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    order_QG, similarities_QG = rank_gallery(queries.features_ND, found.features_ND)
    report = {
        "model": network.identity,
        "settings": {
            "gallery": str(gallery),
            "query_modality": query_modality,
            "gallery_modality": gallery_modality,
            "height": network.height,
            "width": network.width,
            "feature": "bnneck",
            "distance": "cosine",
            "flip": False,
            "re_ranking": False,
            "top": top,
        },
        "gallery_images": len(found.paths),
        "unreadable": [{"path": str(each.path), "reason": each.reason} for each in unreadable],
        "warnings": warnings,
        "queries": [
            _ranking(number, path, found.paths, order_G, similarities_G)
            for number, (path, order_G, similarities_G) in enumerate(
                zip(queries.paths, order_QG, similarities_QG, strict=True), start=1
            )
        ],
    }
    write_results(out, report)
    _print_results(out, report)


def open_default_model(*, size: Size | None = None) -> SearchModel:
    """The registry's champion where there is one, else the model of results/train.

    Raises:
        UserError: There is neither, or the champion cannot be opened: another model would give other results.
    """
    from msclnet.tracking.champion import champion_version
    from msclnet.tracking.registry import MODEL_NAME

    registered = champion_version(MODEL_NAME, home=settings.home())
    return open_model(CHAMPION if registered else str(paths.TRAIN), size=size)


def open_model(address: str, *, size: Size | None = None) -> SearchModel:
    """Load a network, with its calibration where it has one.

    Args:
        address: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, the file of a release, or a folder with
            model.safetensors and network.json.
        size: Of the images, for a folder that does not name it.
    """
    if Path(address).is_file():
        return _model_of_release(Path(address), size)
    if not address.startswith(REGISTERED):
        return _model_of_folder(Path(address), size)
    from msclnet.tracking.registered_model import downloaded_model

    with downloaded_model(address, home=settings.home()) as found:
        agreed = _agreed(size, (found.height, found.width), source=address)
        identity = {"address": address, "name": found.name, "version": found.version, "run_id": found.run_id}
        return _load(found.weights, found.spec, agreed, identity)


def write_results(out: Path, report: Mapping[str, Any]) -> None:
    """Write ranking.json and the pictures. They replace those of a former search when all are whole."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".new-") as folder:
        new = Path(folder)
        for query in report["queries"]:
            _draw(new / query["picture"], query, report)
        (new / RANKING).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        for former in out.glob("ranking_*.png"):
            if former.is_file() and not (new / former.name).exists():
                former.unlink()
        for path in sorted(new.iterdir()):
            os.replace(path, out / path.name)


def _model_of_release(path: Path, size: Size | None) -> SearchModel:
    from msclnet.export.release_file import opened_release

    with opened_release(path) as found:
        agreed = _agreed(size, found.size, source=str(path))
        facts = {name: str(found.manifest[name]) for name in ("name", "version", "run_id")}
        identity = {"address": str(path), "file": str(path.absolute()), **facts}
        return _load(found.weights, found.spec, agreed, identity)


def _model_of_folder(folder: Path, size: Size | None) -> SearchModel:
    weights, spec_path = folder / paths.WEIGHTS.name, folder / paths.NETWORK_SPEC.name
    for path in (spec_path, weights):
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; run `dvc repro train`, or give --model a folder with {weights.name} and "
                f"{spec_path.name}, or a registered model such as models:/msclnet@champion"
            )
    spec = paths.read_json(spec_path, stage=folder.name)
    if not isinstance(spec, dict) or not {"identities", "model", "synergy"} <= set(spec):
        raise UserError(f"{spec_path} does not describe a network; run `dvc repro train --force`")
    identity = {"folder": str(folder), "weights_sha256": file_digest(weights)}
    return _load(weights, spec, _size_of_folder(folder, size), identity)


def _load(weights: Path, spec: Mapping[str, Any], size: Size, identity: dict[str, str]) -> SearchModel:
    from msclnet.embedding import embed_images, load_network

    device = settings.device()
    network = load_network(weights, spec, device=device)

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        return embed_images(network, images, infrared, batch=len(images), device=device)[1]

    calibration = read_calibration(weights)
    return SearchModel(
        embed,
        *size,
        identity,
        digest=weights_digest(weights),
        calibration=calibration.to_json() if calibration else None,
        network=network,
    )


def _size_of_folder(folder: Path, size: Size | None) -> Size:
    """From preprocess' report: in the folder itself, or where the pipeline writes it."""
    near = paths.PREPROCESS_REPORT
    for path in (folder / near.name, folder.parent / near.parent.name / near.name):
        if path.is_file():
            report = paths.read_json(path, stage=path.parent.name)
            try:
                return _agreed(size, (int(report["height"]), int(report["width"])), source=str(path))
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{path} does not hold height and width; run `dvc repro preprocess --force`"
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


def _parse_size(text: str | None) -> Size | None:
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{2,4})x([0-9]{2,4})", text)
    if match is None:
        raise UserError(f"--size {text}: give HEIGHTxWIDTH, such as 288x144")
    return int(match[1]), int(match[2])


def _check_places(query: Sequence[Path], gallery: Path, out: Path) -> None:
    """Before the network is loaded, which takes seconds."""
    for path in query:
        if not path.is_file():
            reason = "is a folder; name image files" if path.is_dir() else "no such file"
            raise UserError(f"{path}: {reason}")
    if not gallery.is_dir():
        raise UserError(f"{gallery}: no such gallery or folder; `msclnet gallery list` names the galleries")
    present = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not present.is_dir():
        raise UserError(f"--out {out}: {present} is a file; give a folder")
    if out.resolve() == gallery.resolve():
        raise UserError(f"--out {out}: this is the gallery itself; give another folder for the results")


def _doubts(files: EmbeddedFiles, option: str, stated: str) -> list[str]:
    if not files.doubtful:
        return []
    other = MODALITIES[MODALITIES[0] == stated]
    path, doubt = files.doubtful[0]
    count = f"{len(files.doubtful)} of {len(files.paths)}"
    return [f"{option} {stated}: {count} images look {other}; the first is {path}: {doubt}"]


def _ranking(
    number: int, query: Path, gallery: Sequence[Path], order_G: np.ndarray, similarities_G: np.ndarray
) -> dict[str, Any]:
    """A query with its picture's name and its whole ranked gallery, ready for JSON."""
    return {
        "path": str(query),
        "picture": f"ranking_{number}.png",
        "ranking": [
            {"rank": rank, "path": str(gallery[place]), "similarity": round(float(similarity), 6)}
            for rank, (place, similarity) in enumerate(zip(order_G, similarities_G, strict=True), start=1)
        ],
    }


def _print_results(out: Path, report: Mapping[str, Any]) -> None:
    for query in report["queries"]:
        print(f"{one_line(query['path'])}: the most similar of {report['gallery_images']} images")
        for each in query["ranking"][:SHOWN]:
            print(f"{each['rank']:4}  {each['similarity']:6.3f}  {one_line(each['path'])}")
    pictures = len(report["queries"])
    print(f"{one_line(out / RANKING)} and {pictures} picture{'s' if pictures > 1 else ''} next to it")


def _draw(path: Path, query: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    from msclnet.figures.rankings import search_figure
    from msclnet.figures.style import save
    from msclnet.images.user_files import read_image

    options, model = report["settings"], report["model"]
    best = query["ranking"][: options["top"]]
    images = [
        read_image(Path(each["path"]), height=options["height"], width=options["width"])
        for each in (query, *best)
    ]
    name = f"{model.get('folder')} (weights {model.get('weights_sha256', '')[:12]})"
    if "version" in model:
        name = f"{model['address']} (version {model['version']})"
    figure = search_figure(
        images[0],
        images[1:],
        query_name=Path(query["path"]).name,
        gallery_names_K=[Path(each["path"]).relative_to(options["gallery"]).as_posix() for each in best],
        similarities_K=[each["similarity"] for each in best],
        query_modality=options["query_modality"],
        gallery_modality=options["gallery_modality"],
        gallery_size=report["gallery_images"],
        model=name,
    )
    save(figure, path)
