"""The user's own image files: found, read and named."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msclnet.datasets.archive import UnreadableFileError, read_plain_file
from msclnet.images.decode import Decoded, UnreadableImageError, decode, resize
from msclnet.progress import progress_bar

ENDINGS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

# Mean over the pixels of (largest - smallest channel), of 255. Infrared images stored as RGB have 0, but for the
# rounding of JPEG; colour images of people, dim ones included, lie above 10.
GREY_SPREAD = 1.0
COLOUR_SPREAD = 8.0


@dataclass(frozen=True)
class Unreadable:
    """A file or folder that could not be read, and why."""

    path: Path
    reason: str


def find_images(folder: Path, *, exclude: Path | None = None) -> tuple[list[Path], list[Unreadable]]:
    """All image files below a folder, by their ending, sorted, and the folders below that could not be opened.

    Links are followed.
    """
    found: list[Path] = []
    closed: list[Unreadable] = []
    seen = {os.path.realpath(exclude)} if exclude else set()

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
    """Decode and resize as the training images were: uint8 RGB (height, width, 3), or UnreadableImageError."""
    return resize(_decoded(path).pixels, height=height, width=width)


def _decoded(path: Path) -> Decoded:
    try:
        return decode(read_plain_file(path))
    except UnreadableFileError as error:
        raise UnreadableImageError(str(error)) from error


def channel_spread(pixels: np.ndarray) -> float:
    """Largest less smallest channel of an image, uint8 RGB (H, W, 3): the mean over its pixels, 0 to 255."""
    red, green, blue = np.moveaxis(pixels, 2, 0)  # by channel: twenty times as fast as max(axis=2)
    largest, smallest = np.maximum(red, green), np.minimum(red, green)
    return float((np.maximum(largest, blue) - np.minimum(smallest, blue)).mean())


def contradiction(pixels: np.ndarray, *, infrared: bool) -> str:
    """Why an image, uint8 RGB (H, W, 3), looks like the other modality; empty if it does not."""
    spread = channel_spread(pixels)
    if infrared and spread > COLOUR_SPREAD:
        return f"its channels differ by {spread:.0f} of 255 on average, as in a colour image"
    if not infrared and spread < GREY_SPREAD:
        return "its three channels are the same, as in an infrared image"
    return ""


BATCH = 64


@dataclass(frozen=True)
class SearchModel:
    """A trained network, ready for files."""

    # Images and whether each is infrared -> features, see msclnet.embedding.
    embed: Callable[[np.ndarray, np.ndarray], np.ndarray]
    height: int  # of the images that it was trained with
    width: int
    identity: dict[str, str]  # name, version or digest, for a report
    digest: str = ""  # sha256 of its weights
    # Of msclnet.retrieval.calibration, as JSON has it; None where nothing was fitted.
    calibration: dict[str, Any] | None = None
    network: Any = None  # for heat maps


@dataclass(frozen=True)
class EmbeddedFiles:
    """Features of image files, of which N could be read."""

    paths: list[Path]  # the N that could be read, in the given order
    features_ND: NDArray[np.float32]  # unnormalised
    unreadable: list[Unreadable]
    doubtful: list[tuple[Path, str]]  # those of the N that look like the other modality, with the reason
    # Those of the N with more than 8 bits a pixel, with the range that became 0..255.
    scaled: list[tuple[Path, str]]


def embed_files(
    paths: Sequence[Path], model: SearchModel, *, infrared: bool, batch: int = BATCH, name: str = ""
) -> EmbeddedFiles:
    """Embed image files by the stream of one modality. One batch of images at a time is in memory."""
    kept: list[Path] = []
    features: list[NDArray[np.float32]] = []
    unreadable: list[Unreadable] = []
    doubtful: list[tuple[Path, str]] = []
    scaled: list[tuple[Path, str]] = []

    def readable() -> Iterator[np.ndarray]:
        with progress_bar(total=len(paths), desc=name, unit="image", disable=not name) as bar:
            for path in paths:
                bar.update()
                try:
                    decoded = _decoded(path)
                except UnreadableImageError as error:
                    unreadable.append(Unreadable(path, str(error)))
                    continue
                pixels = resize(decoded.pixels, height=model.height, width=model.width)
                kept.append(path)
                if decoded.scaled:
                    scaled.append((path, decoded.note))
                if doubt := contradiction(pixels, infrared=infrared):
                    doubtful.append((path, doubt))
                yield pixels

    for images in _batches(readable(), batch):
        features.append(model.embed(images, np.full(len(images), infrared)))
    stacked = np.concatenate(features) if features else np.empty((0, 0), np.float32)
    return EmbeddedFiles(kept, stacked, unreadable, doubtful, scaled)


def _batches(images: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    waiting: list[np.ndarray] = []
    for image in images:
        waiting.append(image)
        if len(waiting) == size:
            yield np.stack(waiting)
            waiting.clear()
    if waiting:
        yield np.stack(waiting)
