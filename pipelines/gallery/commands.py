"""The commands `msclnet gallery`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from msclnet.gallery.adding import Added

SHOWN = 20  # refused files that are listed

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A gallery of galleries/, a folder, or an address such as s3://bucket/yard."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(help="A registered model such as models:/msclnet@champion, a folder, or a released file."),
]


@app.callback()
def gallery() -> None:
    """Galleries: images and their embeddings in a table that stays. docs/gallery.md describes them."""


@app.command()
def add(
    name: Name,
    images: Annotated[Path, typer.Argument(metavar="FOLDER", help="Searched at any depth.")],
    pattern: Annotated[
        str | None,
        typer.Option(help="What the files' names say, such as '{camera}_{time:%Y%m%dT%H%M%S}_*.jpg'."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Columns path, camera, time, modality, identity and any others, in the place of names.",
        ),
    ] = None,
    modality: Annotated[
        Literal["visible", "infrared"] | None,
        typer.Option(help="Of all images. [default: infrared where the three channels are equal]"),
    ] = None,
    model: Model = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="ray[://ADDRESS]", help="Embed with Ray: a local one, or the cluster of the address."
        ),
    ] = None,
) -> None:
    """Add what is new or changed in a folder; what the gallery has is skipped, what cannot be read is listed.

    The gallery is made if it is missing, with the registry's champion where there is one, else with results/train.
    An addition that was interrupted is completed by the same command.

    Example: msclnet gallery add yard images/ --pattern '{camera}_{time:%Y%m%dT%H%M%S}_*.jpg'
    """
    from pipelines.gallery import work

    print_added(work.add(name, images, pattern=pattern, table=table, modality=modality, model=model, on=on))


@app.command("list")
def list_galleries() -> None:
    """List the galleries of the folder galleries/.

    Example: msclnet gallery list
    """
    from msclnet.gallery.store import galleries
    from pipelines.gallery.work import FOLDER, open_gallery

    for name in galleries(FOLDER):
        opened = open_gallery(name)
        print(f"{name}: {len(opened)} images, {opened.model.address}")


@app.command()
def info(name: Name) -> None:
    """Print what a gallery holds, how large it is, and how exact its index.

    Example: msclnet gallery info yard
    """
    from msclnet.gallery.index import index_info
    from pipelines.gallery.work import open_gallery

    opened = open_gallery(name)
    found, model = opened.info(), opened.model
    size = "" if found.bytes is None else f", {found.bytes / 1e6:.1f} MB"
    print(f"{found.address}: {found.images} images{size}, made {found.created}, version {found.version}")
    for title, counts in (("modality", found.modalities), ("camera", found.cameras)):
        print(f"{title}: " + (", ".join(f"{each} {count}" for each, count in counts.items()) or "none known"))
    print(f"other columns: {', '.join(found.columns) or 'none'}")
    print(f"model: {model.address} ({model.digest[:12]}), {model.height}x{model.width}, {model.feature}")
    print(f"probabilities: {'yes' if model.calibration else 'no, the model has no calibration'}")
    print(f"marks: {found.marks}")
    index = index_info(opened)
    if index is None:
        print("index: none, every search compares all images")
    else:
        print(f"index: {index.kind}, {index.rows} images in it and {index.rows_outside} searched next to it")
        print(f"recall@{index.top} against the exact search, {index.queries} queries: {index.recall:.3f}")


@app.command()
def remove(
    name: Name,
    where: Annotated[str, typer.Option(metavar="CONDITION", help="In SQL, on any column.")],
) -> None:
    """Remove images from a gallery; their files stay.

    Example: msclnet gallery remove yard --where "camera = 'c3'"
    """
    from pipelines.gallery.work import open_gallery

    opened = open_gallery(name)
    with opened.locked():
        print(f"{opened.remove(where)} images removed")


@app.command()
def watch(
    name: Name,
    newest: Annotated[
        int, typer.Option(metavar="N", help="Images of each camera to compare with as many of the start.")
    ] = 100,
) -> None:
    """Find cameras whose newest images differ from those at the gallery's start; the report goes to MLflow.

    Exit status: 0 where none does, 3 where one does.

    Example: msclnet gallery watch yard
    """
    from pipelines.gallery.watch import DRIFTED, table, watch

    found = watch(name, newest=newest)
    print(table(found), end="")
    for camera, count in found.left_out.items():
        print(f"left out: {camera}, {count} images", file=sys.stderr)
    for change in filter(lambda change: change.fires, found.changes):
        print(f"{change.camera}: {change.measure} has changed from {change.start:.3g} to {change.newest:.3g}")
    if found.fires:
        raise typer.Exit(DRIFTED)


@app.command()
def rebuild(name: Name, model: Model = None) -> None:
    """Embed a gallery again with another model: the registry's champion where there is one, else results/train.

    Searches see the former embeddings until all new ones are there.

    Example: msclnet gallery rebuild yard --model models:/msclnet@champion
    """
    from pipelines.gallery.work import rebuild_gallery

    rebuilt = rebuild_gallery(name, model=model)
    if not rebuilt.images:
        print("nothing to embed: the gallery has the embeddings of this model")
        return
    print(
        f"{rebuilt.images} images embedded, {rebuilt.from_crops} from the crop: their file is gone or changed"
    )
    if (change := rebuilt.change).queries:
        print(
            f"answers to {change.queries} queries: {change.new_in_top:.0%} of the top 10 were not in it before, "
            f"{change.other_first:.0%} have another first image"
        )


@app.command()
def index(name: Name) -> None:
    """Build an index, with which searches in large galleries are fast and almost exact; it is kept up to date.

    Example: msclnet gallery index yard
    """
    from msclnet.gallery.index import build_index
    from pipelines.gallery.work import open_gallery

    opened = open_gallery(name)
    with opened.locked():
        build_index(opened)
    info(name)


@app.command()
def export(
    name: Name,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet file to write.")],
) -> None:
    """Write a gallery's table, embeddings included, as a Parquet file.

    Example: msclnet gallery export yard yard.parquet
    """
    from pipelines.gallery.work import export_gallery

    print(f"{export_gallery(name, out)} images written to {out}")


def print_added(added: "Added") -> None:
    """Print what an addition did; the first of the refused files go to stderr."""
    from pipelines.console import one_line

    for each in added.refused[:SHOWN]:
        print(f"refused: {one_line(each.path)}: {one_line(each.reason)}", file=sys.stderr)
    if (more := len(added.refused) - SHOWN) > 0:
        print(f"refused: {more} more", file=sys.stderr)
    print(
        f"{added.added} images embedded, {added.described} described again, {added.unchanged} unchanged, "
        f"{len(added.refused)} refused"
    )
