"""From an image file's bytes to pixels, by one stated rule for odd files."""

import io
import re
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 40_000_000  # a person's crop has far below one million; more is a mistake or an attack
MOST_SIDE = (
    65_535  # JPEG's own limit; resizing takes memory for every pixel of a side, however thin the image
)
# Nothing else is tried, whatever the file is called: Pillow would start Ghostscript for EPS, for example.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
EXIF_ORIENTATION = 0x0112
TIFF_TILE_SIDES = (0x0142, 0x0143)


class UnreadableImageError(Exception):
    """The bytes hold no whole image; the message says what is wrong with them."""


@dataclass(frozen=True)
class Decoded:
    """Pixels and what had to be done for them.

    Attributes:
        pixels: uint8 RGB (H, W, 3).
        note: What was converted, or empty.
    """

    pixels: np.ndarray
    note: str


def decode(data: bytes) -> Decoded:
    """Decode an image file.

    The rule: EXIF rotation is applied; grayscale, palette and CMYK become RGB, transparency becomes black;
    a file that is empty, truncated, too large or no image of FORMATS is refused. Of the size it is the header that
    counts, before any pixel is decoded: a small file may declare an enormous image. Of several frames the first counts.

    Raises:
        UnreadableImageError: See the rule.
    """
    if not data:
        raise UnreadableImageError("empty file")
    try:
        with _opened(data) as image:
            _check_size(image.width, image.height)
            _check_tiles(image)
            notes = []
            if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
                image = ImageOps.exif_transpose(image)
                notes.append("rotated by its EXIF orientation")
            if image.mode != "RGB":
                notes.append(f"{image.mode} converted to RGB")
            return Decoded(np.asarray(_to_rgb(image)), "; ".join(notes))
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"no image file of a known kind ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:  # Pillow's own, higher limit, told without the two sides
        found = re.search(r"\d+", str(error))
        raise UnreadableImageError(_too_many(found[0] if found else "too many")) from error
    except (
        Exception
    ) as error:  # Pillow raises what its parsers stumble over: struct.error, TypeError, KeyError ...
        raise UnreadableImageError(f"damaged: {error}") from error


def _opened(data: bytes) -> Image.Image:
    """The image by its header, with no pixel decoded."""
    with warnings.catch_warnings():
        # `_check_size` has the last word on sizes.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data), formats=FORMATS)


def _check_size(width: int, height: int, *, what: str = "it") -> None:
    if width * height > MOST_PIXELS:
        raise UnreadableImageError(_too_many(f"{width} x {height}", what=what))
    if max(width, height) > MOST_SIDE:
        raise UnreadableImageError(
            f"{what} declares {width} x {height} pixels; no side may have more than {MOST_SIDE}"
        )


def _check_tiles(image: Image.Image) -> None:
    """A tiled TIFF is decoded a whole tile at a time, and its tiles may be larger than the image."""
    if image.format == "TIFF":
        tags = image.tag_v2  # pyright: ignore[reportAttributeAccessIssue]
        width, height = (int(tags.get(side, 0)) for side in TIFF_TILE_SIDES)
        _check_size(width, height, what="a tile of it")


def _too_many(pixels: str, *, what: str = "it") -> str:
    return f"{what} declares {pixels} pixels, too many: at most {MOST_PIXELS} are decoded"


def _to_rgb(image: Image.Image) -> Image.Image:
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    if image.mode.startswith("I;16"):
        # Pillow would cut everything above 255 to white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def resize(pixels: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """LANCZOS resize of a uint8 RGB image (H, W, 3) -> (height, width, 3); these are AGW's pixels too."""
    if not _is_gray(pixels):
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    # Pillow treats each channel alike: one of three equal ones is enough, and takes a third of the time.
    channel = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0]))
    return np.repeat(
        np.asarray(channel.resize((width, height), Image.Resampling.LANCZOS))[:, :, None], 3, axis=2
    )


def _is_gray(pixels: np.ndarray) -> bool:
    """Whether the three channels are equal; a coloured image mostly shows in its middle row."""
    row = pixels[len(pixels) // 2]
    return bool((row[:, :1] == row[:, 1:]).all() and (pixels[:, :, :1] == pixels[:, :, 1:]).all())
