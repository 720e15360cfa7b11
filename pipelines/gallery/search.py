"""Searches a gallery from the command line: a table and a picture, or JSON."""

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from msclnet.errors import UserError
from msclnet.gallery.embedding import looks_infrared
from msclnet.gallery.schema import MODALITIES, Match
from msclnet.gallery.sources import parse_time
from msclnet.gallery.store import Gallery
from msclnet.images.decode import UnreadableImageError
from msclnet.images.user_files import SearchModel, read_image
from pipelines.console import one_line
from pipelines.gallery.work import open_gallery, open_model_of

Searched = Literal["visible", "infrared", "any"]


def search_gallery(
    name: str,
    queries: Sequence[Path],
    *,
    query_modality: str | None = None,
    modality: Searched | None = None,
    cameras: Sequence[str] = (),
    after: str | None = None,
    before: str | None = None,
    where: str | None = None,
    top: int = 10,
    exact: bool = False,
    as_json: bool = False,
    out: Path,
) -> None:
    """Print the images of a gallery that are most similar to each query.

    Args:
        name: Name, folder or address of the gallery.
        queries: Image files of single people, cut out as the gallery's images are.
        query_modality: None: infrared where the three channels are equal.
        modality: Of the gallery's images; None: the other one than the query's.
        cameras: Empty for all.
        after, before: Earliest and latest time in ISO format.
        where: A condition in SQL on any column.
        top: Images to show, 1 to 1,000.
        exact: Do not use the index.
        as_json: Print JSON and draw nothing.
        out: Folder of the pictures, ranking_1.png for the first query.

    Raises:
        UserError: There is no such gallery, a query cannot be read, or an option is out of range.
    """
    if not 1 <= top <= 1000:
        raise UserError(f"--top {top}: give a number from 1 to 1000")
    start, end = _time("--after", after), _time("--before", before)
    gallery = open_gallery(name)
    images = [_read_query(path, gallery) for path in queries]
    model = open_model_of(gallery)
    found = []
    for path, pixels in zip(queries, images, strict=True):
        own = query_modality or MODALITIES[looks_infrared(pixels)]
        wanted = modality or MODALITIES[own == MODALITIES[0]]
        matches = gallery.search(
            embed_query(model, pixels, own),
            top=top,
            where=where,
            modality=None if wanted == "any" else wanted,
            cameras=cameras,
            after=start,
            before=end,
            exact=exact,
            query_modality=own,
        )
        found.append({"path": str(path), "modality": own, "matches": [asdict(match) for match in matches]})
        if not as_json:
            _print_matches(path, own, matches)
            if matches:
                _draw(out / f"ranking_{len(found)}.png", gallery, path, pixels, own, wanted, matches)
    if as_json:
        answer = {"gallery": gallery.address, "version": gallery.version, "queries": found}
        json.dump(answer, sys.stdout, indent=2, default=_plain)
        print()


def embed_query(model: SearchModel, pixels: np.ndarray, modality: str) -> np.ndarray:
    """Embedding of one image, uint8 RGB (height, width, 3), by its modality's stream: float32 (D,), unnormalised."""
    return model.embed(pixels[None], np.array([modality == "infrared"]))[0]


def _read_query(path: Path, gallery: Gallery) -> np.ndarray:
    try:
        return read_image(path, height=gallery.model.height, width=gallery.model.width)
    except UnreadableImageError as error:
        raise UserError(f"{path}: not readable as an image ({error}); give another file") from error


def _time(option: str, text: str | None) -> datetime | None:
    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise UserError(f"{option}: {error}") from error


def _print_matches(query: Path, modality: str, matches: Sequence[Match]) -> None:
    print(
        f"{one_line(query)} ({modality}): "
        + ("the most similar" if matches else "no image under these filters")
    )
    for rank, match in enumerate(matches, start=1):
        probability = "     " if match.probability is None else f"{match.probability:5.0%}"
        time = f"{match.time:%Y-%m-%d %H:%M:%S}" if match.time else ""
        print(
            f"{rank:4}  {match.similarity:6.3f} {probability}  {one_line(match.camera or ''):8} {time:19} "
            f"{one_line(match.path)}"
        )


def _draw(
    target: Path,
    gallery: Gallery,
    query: Path,
    pixels: np.ndarray,
    modality: str,
    searched: str,
    matches: Sequence[Match],
) -> None:
    from msclnet.figures.rankings import search_figure
    from msclnet.figures.style import save

    target.parent.mkdir(parents=True, exist_ok=True)
    figure = search_figure(
        pixels,
        [np.asarray(Image.open(io.BytesIO(gallery.image(match.id))).convert("RGB")) for match in matches],
        query_name=query.name,
        gallery_names_K=[Path(match.path).name for match in matches],
        similarities_K=[match.similarity for match in matches],
        query_modality=modality,
        gallery_modality=matches[0].modality if searched == "any" else searched,
        gallery_size=len(gallery),
        model=f"{gallery.model.address} ({gallery.model.digest[:12]})",
    )
    save(figure, target)
    print(f"{one_line(target)}")


def _plain(value: Any) -> str:
    return value.isoformat()
