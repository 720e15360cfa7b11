"""A user's own image files: finding them, reading them, and whether they look like the modality they are said to be."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msclnet.data.decode import UnreadableImageError, decode, resize
from msclnet.data.source import UnreadableFileError, read_plain_file

ENDINGS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

# Mean over the pixels of (largest - smallest channel), of 255. Infrared images stored as RGB have 0, save for
# the rounding of JPEG; colour images of people, dim ones included, lie above 10.
GREY_SPREAD = 1.0
COLOUR_SPREAD = 8.0


@dataclass(frozen=True)
class Unreadable:
    """A file or folder that could not be read, and why."""

    path: Path
    reason: str


def find_images(folder: Path, *, but: Path | None = None) -> tuple[list[Path], list[Unreadable]]:
    """All image files below a folder, by their ending in any case; links are followed.

    Args:
        folder: Where to look, at any depth.
        but: A folder to leave out.

    Returns:
        The files, sorted by path, and the folders below that could not be opened.
    """
    found: list[Path] = []
    closed: list[Unreadable] = []
    seen = {os.path.realpath(but)} if but else set()

    def note(error: OSError) -> None:
        closed.append(Unreadable(Path(error.filename), error.strerror or str(error)))

    for place, folders, names in os.walk(folder, onerror=note, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link back, or to a folder that was seen already
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        found += [Path(place, name) for name in names if name.lower().endswith(ENDINGS)]
    return sorted(found), closed


def read_image(path: Path, *, height: int, width: int) -> np.ndarray:
    """Decode and resize as the training images were: uint8 RGB (height, width, 3).

    Raises:
        UnreadableImageError: The file cannot be opened, is no plain file, is too large, or holds no whole image.
    """
    try:
        data = read_plain_file(path)
    except UnreadableFileError as error:
        raise UnreadableImageError(str(error)) from error
    return resize(decode(data).pixels, height=height, width=width)


def contradiction(pixels: np.ndarray, *, infrared: bool) -> str:
    """What in an image speaks against its stated modality; empty if nothing does.

    Args:
        pixels: uint8 RGB (H, W, 3).
        infrared: The stated modality.
    """
    spread = float((pixels.max(axis=2) - pixels.min(axis=2)).mean())
    if infrared and spread > COLOUR_SPREAD:
        return f"its channels differ by {spread:.0f} of 255 on average, as in a colour image"
    if not infrared and spread < GREY_SPREAD:
        return "its three channels are the same, as in an infrared image"
    return ""
