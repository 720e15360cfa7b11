"""The commands `msclnet gallery`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from msclnet.gallery.store import Gallery

FOLDER = Path("galleries")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A gallery of galleries/, a folder, or an address such as s3://bucket/yard."
    ),
]


@app.callback()
def gallery() -> None:
    """Galleries: images and their embeddings in a table that stays."""


@app.command("list")
def list_galleries() -> None:
    """List the galleries of the folder galleries/."""
    from msclnet.gallery.store import galleries

    for name in galleries(FOLDER):
        opened = open_gallery(name)
        print(f"{name}: {len(opened)} images, {opened.model.address}")


@app.command()
def info(name: Name) -> None:
    """Print what a gallery holds.

    Example: msclnet gallery info yard
    """
    found = open_gallery(name).info()
    print(f"{found.address}: {found.images} images, made {found.created}")
    for title, counts in (("modality", found.modalities), ("camera", found.cameras)):
        print(f"{title}: " + (", ".join(f"{each} {count}" for each, count in counts.items()) or "none known"))
    model = found.model
    print(
        f"model: {model.address} ({model.digest[:12]}), {model.height}x{model.width}, {model.dimensions} numbers"
    )
    print(f"marks: {found.marks}")


@app.command()
def remove(
    name: Name,
    where: Annotated[str, typer.Option(metavar="CONDITION", help="In SQL, on any column.")],
) -> None:
    """Remove images from a gallery; their files stay.

    Example: msclnet gallery remove yard --where "camera = 'c3'"
    """
    print(f"{open_gallery(name).remove(where)} images removed")


def gallery_address(name: str) -> str:
    """Where a gallery lies: a plain name stands for a folder in galleries/."""
    return name if "/" in name else str(FOLDER / name)


def open_gallery(name: str) -> "Gallery":
    """Open a gallery by its name, folder or address.

    Raises:
        UserError: There is none.
    """
    from msclnet.gallery.store import Gallery

    return Gallery.open(gallery_address(name))
