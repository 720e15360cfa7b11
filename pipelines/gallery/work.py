"""Adds to galleries and rebuilds them, with the model that a gallery is from or is to be from."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from msclnet.errors import UserError
from msclnet.files import replaced_file
from msclnet.gallery.adding import Added, Comparison, add_sources, compare
from msclnet.gallery.cluster import LOCAL, embed_on_ray
from msclnet.gallery.embedding import embed_in_threads, prepare_file
from msclnet.gallery.rebuilding import Change, Rebuilt, rebuild
from msclnet.gallery.schema import GalleryModel
from msclnet.gallery.sources import Source, Sources, folder_sources, table_sources
from msclnet.gallery.store import Gallery, is_gallery
from msclnet.images.user_files import SearchModel, Unreadable
from pipelines.search import REGISTERED, open_default_model, open_model
from pipelines.settings import cores

FOLDER = Path("galleries")


def gallery_address(name: str) -> str:
    """Where a gallery lies: a plain name stands for a folder in galleries/."""
    return name if "/" in name else str(FOLDER / name)


def is_named_gallery(name: str) -> bool:
    """Whether a gallery, and not a folder of images, has this name, folder or address."""
    return is_gallery(gallery_address(name))


def open_gallery(name: str) -> Gallery:
    """Open a gallery by its name, folder or address.

    Raises:
        UserError: There is none.
    """
    return Gallery.open(gallery_address(name))


def open_model_of(gallery: Gallery) -> SearchModel:
    """The model that a gallery's embeddings are from.

    Raises:
        UserError: It is not where it was, or another one lies there now.
    """
    model = open_model(gallery.model.address, size=(gallery.model.height, gallery.model.width))
    gallery.check_model(model.digest)
    return model


def add(
    name: str,
    place: Path,
    *,
    pattern: str | None = None,
    table: Path | None = None,
    modality: str | None = None,
    model: str | None = None,
    on: str | None = None,
) -> Added:
    """Add the images of a folder, or those that a table names; the gallery is made if it is missing.

    Args:
        name: Name, folder or address of the gallery.
        place: Folder of the images; paths of the table refer to it.
        pattern: Of the files' names, see `msclnet.gallery.sources.NamePattern`.
        table: CSV file, see `msclnet.gallery.sources.table_sources`.
        modality: Of all images; None: from the table, the pattern or the pixels.
        model: Its address; None: the gallery's own, or for a new gallery the default one.
        on: `ray` or `ray://ADDRESS`: a Ray cluster embeds, see `msclnet.gallery.cluster`; None: this process embeds.

    Raises:
        UserError: A place does not exist, there are no images, or the model is another one than the gallery's.
    """
    if on is not None and on != LOCAL and not on.startswith("ray://"):
        raise UserError(f"--on {on}: give ray, or ray://HOST:PORT")
    given = {"modality": modality} if modality else {}
    if table is not None:
        sources = table_sources(table, place, given=given)
    else:
        sources = folder_sources(place, pattern=pattern, given=given)
    if not sources.images:
        reasons = "".join(f"\n  {each.path}: {each.reason}" for each in sources.refused[:5])
        raise UserError(f"{table or place}: no image to add{reasons}")
    address = gallery_address(name)
    opened = open_model(model) if model else None
    if not is_gallery(address):
        opened = opened or open_default_model()
        Gallery.create(address, describe(opened), exist_ok=True)
    gallery = Gallery.open(address)
    with gallery.locked():
        if opened:
            gallery.check_model(opened.digest)
        found = compare(gallery, sources)
        return _add(gallery, sources, found, opened, on)


def rebuild_gallery(name: str, *, model: str | None = None) -> Rebuilt:
    """Embed a gallery again with another model, by default the registry's champion, else that of results/train.

    Where the embeddings are from this model already, only its description is renewed: it may have got a calibration.

    Raises:
        UserError: There is no such gallery or model.
    """
    gallery = open_gallery(name)
    opened = open_model(model) if model else open_default_model()
    with gallery.locked():
        if opened.digest == gallery.model.digest:
            gallery.renew_description(model=asdict(describe(opened)))
            return Rebuilt(0, 0, Change(0, float("nan"), float("nan")))
        return rebuild(gallery, opened, describe(opened), threads=cores())


def describe(model: SearchModel) -> GalleryModel:
    """What a gallery keeps of a model; its address stays right when an alias of the registry moves."""
    blank = np.zeros((1, model.height, model.width, 3), np.uint8)
    identity = model.identity
    if "file" in identity:
        address = identity["file"]
    elif "version" in identity:
        address = f"{REGISTERED}{identity['name']}/{identity['version']}"
    else:
        address = str(Path(identity["folder"]).absolute())
    return GalleryModel(
        digest=model.digest,
        address=address,
        height=model.height,
        width=model.width,
        dimensions=model.embed(blank, np.array([False])).shape[1],
        calibration=model.calibration,
    )


def export_gallery(name: str, out: Path) -> int:
    """Write a gallery's table as a Parquet file; returns the number of images.

    Raises:
        UserError: There is no such gallery.
    """
    gallery = open_gallery(name)
    count = 0
    with replaced_file(out) as path, ParquetWriter(path, gallery.schema) as writer:
        for batch in gallery.batches(gallery.schema.names):
            writer.write_batch(batch.cast(gallery.schema))
            count += len(batch)
    return count


def _add(
    gallery: Gallery, sources: Sources, found: Comparison, model: SearchModel | None, on: str | None
) -> Added:
    if not found.pending:
        return add_sources(gallery, sources, found, None)
    model = model or open_model_of(gallery)

    def embed(images: Iterable[Source]) -> Iterator[tuple[pa.Table, list[Unreadable]]]:
        if on is not None:
            reopen = partial(open_model, gallery.model.address, size=(model.height, model.width))
            return embed_on_ray(images, reopen, gallery.schema, address=on)
        prepare = partial(prepare_file, height=model.height, width=model.width)
        return embed_in_threads(images, prepare, model, gallery.schema, threads=cores())

    return add_sources(gallery, sources, found, embed)
