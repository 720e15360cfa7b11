"""From an image file's bytes to pixels, by one stated rule for odd files."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 40_000_000  # a person's crop has far below one million
# Nothing else is tried, whatever the file is called: Pillow would start Ghostscript for EPS, for example.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
EXIF_ORIENTATION = 0x0112

Image.MAX_IMAGE_PIXELS = MOST_PIXELS


class UnreadableImageError(Exception):
    """The bytes hold no whole image; the message says what is wrong with them."""


@dataclass(frozen=True)
class Decoded:
    """Pixels and what had to be done for them."""

    pixels: np.ndarray  # uint8 RGB (H, W, 3)
    note: str  # what was converted, or empty
    scaled: bool = False  # whether the file had more than 8 bits a pixel and was scaled to 0..255


def decode(data: bytes, *, span: tuple[float, float] | None = None) -> Decoded:
    """Decode an image file; UnreadableImageError where it is refused.

    EXIF rotation is applied; grayscale, palette and CMYK become RGB, transparency becomes black; gray of more than 8
    bits (16-bit, int32, float) is scaled linearly from `span` (None: its own lowest and highest value) to 0..255; a
    file that is empty, truncated, no image of FORMATS, or declares more than MOST_PIXELS is refused. Of several
    frames the first counts.
    """
    notes = []
    with _opened(data) as image:
        if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
            notes.append("rotated by its EXIF orientation")
        if scaled := _is_deep(image):
            low, high = span or _range(image)
            whose = "its own range" if span is None else "its camera's range"
            notes.append(f"{image.mode} scaled from {low:g}..{high:g}, {whose}, to 0..255")
            return Decoded(_scaled(image, low, high), "; ".join(notes), scaled)
        if image.mode != "RGB":
            notes.append(f"{image.mode} converted to RGB")
        elif any(";16" in str(tile) for tile in getattr(image, "tile", [])):
            notes.append("16 bits a channel cut to their upper 8")
        return Decoded(np.asarray(_to_rgb(image)), "; ".join(notes))


def deep_range(data: bytes) -> tuple[float, float] | None:
    """Lowest and highest value of a gray image of more than 8 bits; None for every other file."""
    try:
        with _opened(data) as image:
            return _range(image) if _is_deep(image) else None
    except UnreadableImageError:
        return None


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """All that Pillow raises becomes an UnreadableImageError."""
    if not data:
        raise UnreadableImageError("empty file")
    try:
        with warnings.catch_warnings():
            # Pillow warns up to twice its limit and raises above.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                yield image
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"no image file of a known kind ({', '.join(FORMATS)})") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"too many pixels: at most {MOST_PIXELS} are decoded ({error})") from error
    # Pillow raises what its parsers stumble over: struct.error, TypeError, KeyError ...
    except Exception as error:
        raise UnreadableImageError(f"damaged: {error}") from error


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _range(image: Image.Image) -> tuple[float, float]:
    values = np.asarray(image, np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise UnreadableImageError("no pixel has a finite value")
    return float(finite.min()), float(finite.max())


def _scaled(image: Image.Image, low: float, high: float) -> np.ndarray:
    """Gray values from `low` to `high` as 0 to 255, in three equal channels; what is not finite becomes black."""
    values = np.nan_to_num(np.asarray(image, np.float64), nan=low, posinf=low, neginf=low)
    stretched = (values - low) * (255 / max(high - low, np.finfo(float).tiny))
    gray = np.clip(stretched, 0, 255).round().astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def _to_rgb(image: Image.Image) -> Image.Image:
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def resize(pixels: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """LANCZOS resize of a uint8 RGB image (H, W, 3) -> (height, width, 3); these are AGW's pixels too."""
    if not _is_gray(pixels):
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    # Pillow treats each channel alike: one of three equal ones is enough, and takes a third of the time.
    channel = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0]))
    gray = np.asarray(channel.resize((width, height), Image.Resampling.LANCZOS))
    return np.repeat(gray[:, :, None], 3, axis=2)


def _is_gray(pixels: np.ndarray) -> bool:
    """Whether the three channels are equal; a coloured image mostly shows in its middle row."""
    row = pixels[len(pixels) // 2]
    return bool((row[:, :1] == row[:, 1:]).all() and (pixels[:, :, :1] == pixels[:, :, 1:]).all())
