"""Search in your own folder: which gallery images show the person of a query?

`python -m pipelines.search --query img.jpg --gallery folder/`
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msclnet.data.photos import ENDINGS, find_images
from msclnet.errors import UserError
from msclnet.retrieval.search import rank_gallery
from msclnet.search import EmbeddedFiles, SearchModel, embed_files
from pipelines import places
from pipelines.orchestration.environment import QUIET
from pipelines.orchestration.process_tree import sigterm_raises
from pipelines.search_output import ranked, tell, write_results
from pipelines.stage import report_user_errors
from pipelines.telling import in_one_line, tellable

MODALITIES = ("visible", "infrared")
OUT = Path("results/search")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    options = _parser().parse_args(arguments)
    with sigterm_raises():
        report_user_errors(lambda: search(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.search",
        description="Ranks the images of a folder by their similarity to each query, as the trained network sees "
        "it. Give images of single people, cut out as the training images are: upright, head to foot. The "
        "modality is never guessed: by default the queries are infrared and the gallery is visible, and each "
        "takes its own modality's part of the network.",
    )
    add = parser.add_argument
    add("--query", nargs="+", required=True, type=Path, metavar="IMAGE", help="one or more image files")
    add("--gallery", required=True, type=Path, metavar="FOLDER", help="searched at any depth")
    add("--query-modality", choices=MODALITIES, default="infrared", help="default: infrared")
    add("--gallery-modality", choices=MODALITIES, default="visible", help="default: visible")
    add("--top", type=_top, default=10, metavar="N", help="images in a picture, 1 to 100; default: 10")
    add("--out", type=Path, default=OUT, metavar="FOLDER", help=f"default: {OUT}")
    add(
        "--model",
        default=str(places.TRAIN),
        help="a folder with model.safetensors and network.json, or a registered model such as "
        f"models:/msclnet@champion; default: {places.TRAIN}",
    )
    add("--size", type=_size, metavar="HxW", help="image size of a --model folder that does not tell it")
    return parser


def search(options: argparse.Namespace) -> None:
    """Embed, rank and write <out>/ranking.json and a picture for each query.

    Raises:
        UserError: A place does not exist, a query cannot be read, the gallery holds no readable image, or there is no
            such model.
    """
    _check_places(options)
    files, closed = find_images(options.gallery, but=options.out)
    if not files:
        raise UserError(
            f"--gallery {options.gallery} holds no image ({', '.join(ENDINGS)})"
            + "".join(f"\n  {each.path}: {each.reason}" for each in closed)
        )

    from pipelines.search_model import open_model

    model = open_model(options.model, size=options.size)
    queries = embed_files(options.query, model, infrared=options.query_modality == "infrared")
    if queries.unreadable:
        told = "\n".join(f"  {each.path}: {each.reason}" for each in queries.unreadable)
        raise UserError(f"--query: not readable as an image; give another file\n{told}")
    gallery = embed_files(
        files, model, infrared=options.gallery_modality == "infrared", name=str(options.gallery)
    )
    unreadable = [*gallery.unreadable, *closed]
    if not gallery.paths:
        raise UserError(
            f"--gallery {options.gallery}: none of the {len(files)} images is readable; the first is "
            f"{unreadable[0].path}: {unreadable[0].reason}"
        )
    warnings = [
        *_doubts(queries, "--query-modality", options.query_modality),
        *_doubts(gallery, "--gallery-modality", options.gallery_modality),
    ]
    for each in unreadable:
        print(f"left out: {in_one_line(each.path)}: {in_one_line(each.reason)}", file=sys.stderr)
    for warning in warnings:
        print(f"warning: {tellable(warning)}", file=sys.stderr)
    order, similarities = rank_gallery(queries.features_ND, gallery.features_ND)
    report = {
        "model": model.identity,
        "settings": _settings(options, model),
        "gallery_images": len(gallery.paths),
        "unreadable": [{"path": str(each.path), "reason": each.reason} for each in unreadable],
        "warnings": warnings,
        "queries": ranked(queries.paths, gallery.paths, order, similarities),
    }
    write_results(options.out, report)
    tell(options.out, report)


def _check_places(options: argparse.Namespace) -> None:
    """Before the network is loaded, which takes seconds."""
    for path in options.query:
        if not path.is_file():
            what = "is a folder; name image files" if path.is_dir() else "no such file"
            raise UserError(f"--query {path}: {what}")
    if not options.gallery.is_dir():
        raise UserError(f"--gallery {options.gallery}: no such folder; give the folder that holds the images")
    out: Path = options.out
    present = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not present.is_dir():
        raise UserError(f"--out {out}: {present} is a file; give a folder")
    if out.resolve() == options.gallery.resolve():
        raise UserError(f"--out {out}: this is the gallery itself; give another folder for the results")


def _settings(options: argparse.Namespace, model: SearchModel) -> dict[str, Any]:
    return {
        "gallery": str(options.gallery),
        "query_modality": options.query_modality,
        "gallery_modality": options.gallery_modality,
        "height": model.height,
        "width": model.width,
        "feature": "bnneck",
        "distance": "cosine",
        "flip": False,
        "re_ranking": False,
        "top": options.top,
    }


def _doubts(files: EmbeddedFiles, option: str, stated: str) -> list[str]:
    if not files.doubtful:
        return []
    other = MODALITIES[MODALITIES[0] == stated]
    path, doubt = files.doubtful[0]
    count = f"{len(files.doubtful)} of {len(files.paths)}"
    return [f"{option} {stated}: {count} images look {other}; the first is {path}: {doubt}"]


def _top(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]?|100", text):
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 100, not {text!r}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{2,4})x([0-9]{2,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 288x144, not {text!r}")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    main()
