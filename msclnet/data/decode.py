"""From an image file's bytes to pixels, by one stated rule for odd files."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 40_000_000  # a person's crop has far below one; more is a mistake or an attack
EXIF_ORIENTATION = 0x0112


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
    a file that is empty, truncated, too large or no image is refused.

    Raises:
        UnreadableImageError: See the rule.
    """
    if not data:
        raise UnreadableImageError("empty file")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UnreadableImageError(f"{image.width} x {image.height} pixels are too many")
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
        raise UnreadableImageError("no image file") from error
    except (
        Exception
    ) as error:  # Pillow raises what its parsers stumble over: struct.error, TypeError, KeyError ...
        raise UnreadableImageError(f"damaged: {error}") from error


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
