"""Queries as the network sees them: cut out of an uploaded image, and the latest ones kept in memory."""

import hashlib
import io
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from msclnet.errors import UserError
from msclnet.gallery.schema import MODALITIES

KEPT_QUERIES = 64  # in memory, as the network sees them: 8 MB at 288 x 144

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


@dataclass(frozen=True)
class Sought:
    """One image of a search or pair.

    Attributes:
        id: Of an image of the gallery; of an uploaded one its modality, a hyphen and a digest of its pixels.
        pixels_HW3: uint8 RGB, as the network sees it.
        infrared: Its modality.
        vector_D: Its embedding.
    """

    id: str
    pixels_HW3: np.ndarray
    infrared: bool
    vector_D: np.ndarray


class KeptQueries:
    """The latest uploaded queries, by id; the oldest one leaves when there are more than `KEPT_QUERIES`."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Sought] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, sought: Sought) -> None:
        """Add one, or make one that is there the latest."""
        with self._lock:
            self._kept[sought.id] = sought
            self._kept.move_to_end(sought.id)
            while len(self._kept) > KEPT_QUERIES:
                self._kept.popitem(last=False)

    def get(self, id: str) -> Sought | None:
        """The query, or None where it is not in memory."""
        return self._kept.get(id)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()


def uploaded_id(pixels_HW3: np.ndarray, *, infrared: bool) -> str:
    """The id of an uploaded query: the same for the same pixels and modality."""
    return f"{MODALITIES[infrared]}-{hashlib.sha256(pixels_HW3.tobytes()).hexdigest()[:32]}"


def is_uploaded(id: str) -> bool:
    """Whether an id is that of an uploaded query and not of an image of the gallery."""
    return "-" in id


def cut(pixels_HW3: np.ndarray, box: Box | None) -> np.ndarray:
    """The box of an image, or the whole image where there is no box.

    Raises:
        UserError: The box is not within the image.
    """
    if box is None:
        return pixels_HW3
    left, top, width, height = box
    rows, columns = pixels_HW3.shape[:2]
    if min(left, top) < 0 or min(width, height) < 1 or left + width > columns or top + height > rows:
        raise UserError(
            f"box={left},{top},{width},{height} is not within the image of {columns} x {rows} pixels; give left, top, "
            "width and height in pixels of the image"
        )
    return pixels_HW3[top : top + height, left : left + width]


def encoded(pixels_HW3: np.ndarray, kind: str, **options: Any) -> bytes:
    """An image file, such as PNG, of uint8 RGB pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels_HW3).save(file, kind, **options)
    return file.getvalue()
