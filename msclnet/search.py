"""A user's own image files as features, read and embedded a batch at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msclnet.data.decode import UnreadableImageError
from msclnet.data.photos import Unreadable, contradiction, read_image
from msclnet.progress import progress_bar

if TYPE_CHECKING:
    from msclnet.serving import Embedder

BATCH = 64


@dataclass(frozen=True)
class SearchModel:
    """A trained network, ready for files.

    Attributes:
        embed: Images and whether each is infrared -> features, see `msclnet.serving`.
        height, width: The image size that it was trained with.
        identity: What tells this model from others, for a report.
    """

    embed: "Embedder"
    height: int
    width: int
    identity: dict[str, str]


@dataclass(frozen=True)
class EmbeddedFiles:
    """What became of some files; N of them could be read.

    Attributes:
        paths: The N that could be read, in the given order.
        features_ND: float32 (N, D), unnormalised.
        unreadable: The others.
        doubtful: Those of the N that look like the other modality, each with what speaks for it.
    """

    paths: list[Path]
    features_ND: NDArray[np.float32]
    unreadable: list[Unreadable]
    doubtful: list[tuple[Path, str]]


def embed_files(
    paths: Sequence[Path], model: SearchModel, *, infrared: bool, batch: int = BATCH, name: str = ""
) -> EmbeddedFiles:
    """Embed image files by the stream of one modality. No more than one batch of images is held in memory.

    Args:
        paths: Image files.
        model: The network.
        infrared: The modality of all of them.
        batch: Images at a time.
        name: Of the progress bar; none is drawn without one.
    """
    kept: list[Path] = []
    features: list[NDArray[np.float32]] = []
    unreadable: list[Unreadable] = []
    doubtful: list[tuple[Path, str]] = []

    def readable() -> Iterator[np.ndarray]:
        with progress_bar(total=len(paths), desc=name, unit="image", disable=not name) as bar:
            for path in paths:
                bar.update()
                try:
                    pixels = read_image(path, height=model.height, width=model.width)
                except UnreadableImageError as error:
                    unreadable.append(Unreadable(path, str(error)))
                    continue
                kept.append(path)
                if doubt := contradiction(pixels, infrared=infrared):
                    doubtful.append((path, doubt))
                yield pixels

    for images in _batches(readable(), batch):
        features.append(model.embed(images, np.full(len(images), infrared)))
    stacked = np.concatenate(features) if features else np.empty((0, 0), np.float32)
    return EmbeddedFiles(kept, stacked, unreadable, doubtful)


def _batches(images: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    waiting: list[np.ndarray] = []
    for image in images:
        waiting.append(image)
        if len(waiting) == size:
            yield np.stack(waiting)
            waiting.clear()
    if waiting:
        yield np.stack(waiting)
