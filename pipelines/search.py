"""Search in your own folder: which gallery images show the person of a query?

`msclnet search --query img.jpg --gallery folder/`
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msclnet.errors import UserError
from msclnet.images.table import file_digest
from msclnet.images.user_files import ENDINGS, EmbeddedFiles, SearchModel, embed_files, find_images
from msclnet.retrieval.distance import rank_gallery
from pipelines import settings
from pipelines.console import in_one_line, tellable
from pipelines.stages import paths

# Which network a search uses: the pipeline's own, one in a folder, or a registered one.

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

    settings.device()  # sets the number of threads; a registered model runs on the CPU
    model = load_registered(address, home=settings.home())
    height, width = _agreed(size, (model.height, model.width), source=address)
    identity = {"address": address, "name": model.name, "version": model.version, "run_id": model.run_id}
    return SearchModel(model.embed, height, width, identity)


def _from_folder(folder: Path, size: Size | None) -> SearchModel:
    weights, spec_path = folder / paths.WEIGHTS.name, folder / paths.NETWORK_SPEC.name
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

    from msclnet.embedding import embed_images, load_network

    device = settings.device()
    network = load_network(weights, spec, device=device)

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        return embed_images(network, images, infrared, batch=len(images), device=device)[1]

    identity = {"folder": str(folder), "weights_sha256": file_digest(weights)}
    return SearchModel(embed, height, width, identity)


def _size_beside(folder: Path, size: Size | None) -> Size:
    """From preprocess' report: in the folder itself, or where the pipeline puts it beside results/train."""
    near = paths.PREPROCESS_REPORT
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


# What a search leaves behind: ranking.json, a picture for each query, and a few lines of text.

RANKING = "ranking.json"
SHOWN = 5  # in the text


def ranked(
    queries: Sequence[Path], gallery: Sequence[Path], order_QG: np.ndarray, similarities_QG: np.ndarray
) -> list[dict[str, Any]]:
    """Each query with its picture's name and its whole ranked gallery, ready for JSON.

    Args:
        queries, gallery: The files.
        order_QG, similarities_QG: As `msclnet.retrieval.distance.rank_gallery` gives them.
    """
    return [
        {
            "path": str(query),
            "picture": f"ranking_{number}.png",
            "ranking": [
                {"rank": rank, "path": str(gallery[place]), "similarity": round(float(similarity), 6)}
                for rank, (place, similarity) in enumerate(
                    zip(places_G, similarities_G, strict=True), start=1
                )
            ],
        }
        for number, (query, places_G, similarities_G) in enumerate(
            zip(queries, order_QG, similarities_QG, strict=True), start=1
        )
    ]


def write_results(out: Path, report: dict[str, Any]) -> None:
    """Write ranking.json and the pictures. They are moved in when all are whole, in place of a former search's."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".new-") as folder:
        made = Path(folder)
        for query in report["queries"]:
            _draw(made / query["picture"], query, report)
        (made / RANKING).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        for former in out.glob("ranking_*.png"):
            if former.is_file() and not (made / former.name).exists():
                former.unlink()
        for path in sorted(made.iterdir()):
            os.replace(path, out / path.name)


def tell(out: Path, report: dict[str, Any]) -> None:
    """Print the best few of each query."""
    for query in report["queries"]:
        print(f"{in_one_line(query['path'])}: the most similar of {report['gallery_images']} images")
        for each in query["ranking"][:SHOWN]:
            print(f"{each['rank']:4}  {each['similarity']:6.3f}  {in_one_line(each['path'])}")
    pictures = len(report["queries"])
    print(f"{in_one_line(out / RANKING)} and {pictures} picture{'s' if pictures > 1 else ''} beside it")


def _draw(path: Path, query: dict[str, Any], report: dict[str, Any]) -> None:
    from msclnet.figures.rankings import search_figure
    from msclnet.figures.style import save
    from msclnet.images.user_files import read_image

    settings = report["settings"]
    best = query["ranking"][: settings["top"]]
    images = [
        read_image(Path(each["path"]), height=settings["height"], width=settings["width"])
        for each in (query, *best)
    ]
    figure = search_figure(
        images[0],
        images[1:],
        query_name=Path(query["path"]).name,
        gallery_names_K=[Path(each["path"]).relative_to(settings["gallery"]).as_posix() for each in best],
        similarities_K=[each["similarity"] for each in best],
        query_modality=settings["query_modality"],
        gallery_modality=settings["gallery_modality"],
        gallery_size=report["gallery_images"],
        model=_name(report["model"]),
    )
    save(figure, path)


def _name(identity: dict[str, str]) -> str:
    if "version" in identity:
        return f"{identity['address']} (version {identity['version']})"
    return f"{identity['folder']} (weights {identity['weights_sha256'][:12]})"


MODALITIES = ("visible", "infrared")
OUT = Path("results/search")
SHOWN_SCALED = 3


def search(
    query: Sequence[Path],
    gallery: Path,
    *,
    query_modality: str = "infrared",
    gallery_modality: str = "visible",
    top: int = 10,
    out: Path = OUT,
    model: str = str(paths.TRAIN),
    size: str | None = None,
) -> None:
    """Embed, rank and write <out>/ranking.json and a picture for each query.

    Args:
        query: Image files.
        gallery: Folder that is searched at any depth.
        query_modality, gallery_modality: `visible` or `infrared`.
        top: Images in a picture.
        out: Folder for the results.
        model: As for `open_model`.
        size: HEIGHTxWIDTH of the images, for a folder `model` that does not name it.

    Raises:
        UserError: A place does not exist, a query cannot be read, the gallery holds no readable image, or there is no
            such model.
    """
    _check_places(query, gallery, out)
    files, closed = find_images(gallery, exclude=out)
    if not files:
        raise UserError(
            f"--gallery {gallery} holds no image ({', '.join(ENDINGS)})"
            + "".join(f"\n  {each.path}: {each.reason}" for each in closed)
        )

    network = open_model(model, size=_size(size))
    queries = embed_files(query, network, infrared=query_modality == "infrared")
    if queries.unreadable:
        told = "\n".join(f"  {each.path}: {each.reason}" for each in queries.unreadable)
        raise UserError(f"--query: not readable as an image; give another file\n{told}")
    found = embed_files(files, network, infrared=gallery_modality == "infrared", name=str(gallery))
    unreadable = [*found.unreadable, *closed]
    if not found.paths:
        raise UserError(
            f"--gallery {gallery}: none of the {len(files)} images is readable; the first is "
            f"{unreadable[0].path}: {unreadable[0].reason}"
        )
    warnings = [
        *_doubts(queries, "--query-modality", query_modality),
        *_doubts(found, "--gallery-modality", gallery_modality),
        *(f"{path}: {note}" for path, note in (queries.scaled + found.scaled)[:SHOWN_SCALED]),
    ]
    if (more := len(queries.scaled + found.scaled) - SHOWN_SCALED) > 0:
        warnings.append(f"{more} more images of more than 8 bits were scaled in the same way")
    for each in unreadable:
        print(f"left out: {in_one_line(each.path)}: {in_one_line(each.reason)}", file=sys.stderr)
    for warning in warnings:
        print(f"warning: {tellable(warning)}", file=sys.stderr)
    order, similarities = rank_gallery(queries.features_ND, found.features_ND)
    used = {
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
    }
    report = {
        "model": network.identity,
        "settings": used,
        "gallery_images": len(found.paths),
        "unreadable": [{"path": str(each.path), "reason": each.reason} for each in unreadable],
        "warnings": warnings,
        "queries": ranked(queries.paths, found.paths, order, similarities),
    }
    write_results(out, report)
    tell(out, report)


def _check_places(query: Sequence[Path], gallery: Path, out: Path) -> None:
    """Before the network is loaded, which takes seconds."""
    for path in query:
        if not path.is_file():
            what = "is a folder; name image files" if path.is_dir() else "no such file"
            raise UserError(f"--query {path}: {what}")
    if not gallery.is_dir():
        raise UserError(f"--gallery {gallery}: no such folder; give the folder that holds the images")
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


def _size(text: str | None) -> Size | None:
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{2,4})x([0-9]{2,4})", text)
    if match is None:
        raise UserError(f"--size {text}: expected HEIGHTxWIDTH such as 288x144")
    return int(match[1]), int(match[2])
