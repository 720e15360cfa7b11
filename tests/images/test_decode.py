"""Odd image files, against pixels that were made by hand or by Pillow itself."""

import io
import itertools
import random
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from msclnet.images.decode import UnreadableImageError, decode, deep_range, resize

HEIGHT, WIDTH = 12, 7
RGB = np.random.default_rng(3).integers(0, 256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
GRAY = RGB[:, :, 0]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def checked(data: bytes, expected: np.ndarray) -> str:
    decoded = decode(data)
    assert decoded.pixels.dtype == np.uint8
    np.testing.assert_array_equal(decoded.pixels, expected)
    return decoded.note


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG"])
def test_rgb_is_taken_as_it_is(kind: str) -> None:
    data = encoded(Image.fromarray(RGB), kind)
    assert checked(data, RGB if kind != "JPEG" else np.asarray(Image.open(io.BytesIO(data)))) == ""


RAMP = np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)


def tiff(values: np.ndarray) -> bytes:
    return encoded(Image.fromarray(values), "TIFF")


# Infrared cameras write these; cut at 255 they would be white.
DEEP = {
    "14 bits in a 16-bit PNG": lambda: (
        encoded(Image.fromarray((51_241 + 940 * RAMP).astype(np.uint16))),
        51_241,
        52_181,
    ),
    "16-bit PGM": lambda: (
        b"P5 %d %d 65535 " % (WIDTH, HEIGHT) + (30_000 + 2_000 * RAMP).astype(">u2").tobytes(),
        30_000,
        32_000,
    ),
    "TIFF in kelvin": lambda: (tiff((280 + 30 * RAMP).astype(np.float32)), 280, 310),
    "int32 TIFF": lambda: (tiff((-500 + 5_000 * RAMP).astype(np.int32)), -500, 4_500),
}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_eight_bits_are_scaled_from_the_images_own_range(kind: str) -> None:
    data, low, high = DEEP[kind]()
    assert deep_range(data) == pytest.approx((low, high))
    decoded = decode(data)
    expected = np.repeat(255 * RAMP[:, :, None], 3, axis=2)
    assert np.abs(decoded.pixels - expected).max() <= 1
    assert decoded.pixels.max() == 255
    assert decoded.scaled
    for part in (f"{low:g}..{high:g}", "its own range", "0..255"):
        assert part in decoded.note


def test_more_than_eight_bits_are_scaled_from_a_given_range() -> None:
    data, _, _ = DEEP["14 bits in a 16-bit PNG"]()
    values = np.asarray(Image.open(io.BytesIO(data)), float)
    decoded = decode(data, span=(51_000, 52_000))
    expected = np.clip((values - 51_000) * 255 / 1000, 0, 255)
    assert np.abs(decoded.pixels[:, :, 1] - expected).max() <= 0.5
    assert "51000..52000, its camera's range" in decoded.note


def test_values_that_are_not_finite_become_black() -> None:
    values = (280 + 30 * RAMP).astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    assert deep_range(tiff(values)) == pytest.approx((values[0, 3], 310))
    decoded = decode(tiff(values))
    assert decoded.pixels[0, :3].tolist() == [[0, 0, 0]] * 3
    assert decoded.pixels[-1, -1].tolist() == [255, 255, 255]
    with pytest.raises(UnreadableImageError, match="finite"):
        decode(tiff(np.full((3, 3), np.nan, np.float32)))
    assert decode(tiff(np.full((3, 3), 7.5, np.float32))).pixels.tolist() == [[[0, 0, 0]] * 3] * 3


@pytest.mark.parametrize(
    "data", [b"", b"no image", encoded(Image.fromarray(RGB)), encoded(Image.fromarray(GRAY))]
)
def test_other_files_have_no_range(data: bytes) -> None:
    assert deep_range(data) is None


def indexed(*values: int) -> Image.Image:
    image = Image.fromarray(np.array([values], dtype=np.uint8), "P")
    image.putpalette([255, 255, 255, 10, 20, 30, 40, 50, 60])
    return image


COLOURS = np.array([[[200, 100, 50, 0], [200, 100, 50, 255], [200, 100, 50, 51]]], dtype=np.uint8)
OTHER_MODES = {
    "L": (encoded(Image.fromarray(GRAY)), np.repeat(GRAY[:, :, None], 3, axis=2)),
    "P": (encoded(indexed(2, 0, 1)), [[[40, 50, 60], [255, 255, 255], [10, 20, 30]]]),
    # What is transparent becomes black; 51 is a fifth of 255.
    "P, one colour of it transparent": (
        encoded(indexed(0, 1, 2), transparency=0),
        [[[0, 0, 0], [10, 20, 30], [40, 50, 60]]],
    ),
    "RGBA": (encoded(Image.fromarray(COLOURS)), [[[0, 0, 0], [200, 100, 50], [40, 20, 10]]]),
    "LA": (encoded(Image.fromarray(COLOURS[:, :2, 2:], "LA")), [[[0, 0, 0], [50, 50, 50]]]),
}


@pytest.mark.parametrize("mode", OTHER_MODES)
def test_other_modes_become_rgb(mode: str) -> None:
    data, expected = OTHER_MODES[mode]
    assert f"{mode.partition(',')[0]} converted to RGB" in checked(data, np.array(expected, np.uint8))


def test_cmyk_jpeg() -> None:
    inks = {"white": (0, 0, 0, 0), "black": (0, 0, 0, 255), "cyan": (255, 0, 0, 0), "yellow": (0, 0, 255, 0)}
    light = {"white": (255,) * 3, "black": (0,) * 3, "cyan": (0, 255, 255), "yellow": (255, 255, 0)}
    for name, ink in inks.items():
        decoded = decode(encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100))
        assert "CMYK converted to RGB" in decoded.note
        assert np.abs(decoded.pixels.astype(int) - np.array(light[name])).max() <= 3, name


# What the eight orientations of the EXIF standard mean, as numpy moves that put the picture upright.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", sorted(UPRIGHT))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(RGB), kind, exif=exif)
    stored = np.asarray(Image.open(io.BytesIO(data)))
    note = checked(data, UPRIGHT[orientation](stored))
    assert bool(note) == (orientation != 1)
    np.testing.assert_array_equal(
        decode(data).pixels, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(64, 32, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    assert decode(data).pixels.shape == noise.shape
    with pytest.raises(UnreadableImageError):
        decode(data[: int(share * len(data))])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"just some words\n" * 20, "no image file of a known kind"),
        (bytes(1000), "no image file of a known kind"),
        (b"\xff\xd8\xff", "no image file|damaged"),
        (b"\x89PNG\r\n\x1a\n", "no image file|damaged"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UnreadableImageError, match=message):
        decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_random_damage_never_ends_in_another_exception(kind: str) -> None:
    """One odd file among tens of thousands must not end the stage."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    options: dict[str, Any] = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}
    whole = encoded(Image.fromarray(RGB), kind, **options)
    rng = random.Random(0)
    refused = 0
    for _ in range(250):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 2, 4))):
            data[rng.randrange(min(len(data), rng.choice((200, len(data)))))] = rng.randrange(256)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                decoded = decode(bytes(data))
        except UnreadableImageError:
            refused += 1
        else:
            assert decoded.pixels.ndim == 3
            assert decoded.pixels.shape[2] == 3
    assert refused > 15


@pytest.mark.parametrize(("size", "target"), itertools.product([(12, 7), (300, 120)], [(288, 144), (32, 16)]))
def test_resize_is_pillows_lanczos(size: tuple[int, int], target: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(*size, 3), dtype=np.uint8)
    resized = resize(pixels, height=target[0], width=target[1])
    expected = Image.fromarray(pixels).resize((target[1], target[0]), Image.Resampling.LANCZOS)
    assert resized.shape == (*target, 3)
    np.testing.assert_array_equal(resized, np.asarray(expected))


@pytest.mark.parametrize(
    "odd", [None, (0, 0, 0), (44, 16, 1), (88, 32, 2)], ids=["gray", "first", "middle", "last"]
)
def test_resize_of_gray_and_of_almost_gray(odd: tuple[int, int, int] | None) -> None:
    """Three equal channels take a shorter way; a single value that differs must not."""
    pixels = np.repeat(np.random.default_rng(5).integers(0, 256, (89, 33, 1), np.uint8), 3, axis=2)
    if odd:
        pixels[odd] ^= 255
    expected = Image.fromarray(pixels).resize((24, 48), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(resize(pixels, height=48, width=24), np.asarray(expected))
