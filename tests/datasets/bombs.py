"""Image files of a few hundred bytes whose headers declare enormous images."""

import io
import struct
import zlib

from PIL import Image


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def gif(width: int, height: int, *, frame: tuple[int, int]) -> bytes:
    """One frame, which may be larger than the screen: Pillow lets it enlarge the image."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\0;"


def jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "WEBP")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\x9d\x01\x2a")
    data[at + 3 : at + 7] = struct.pack("<HH", width, height)
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + head


def tiff(width: int, height: int) -> bytes:
    """Deflated, in one strip."""
    place = 200
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 273: place, 277: 1, 278: height, 279: 50}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return data.ljust(place, b"\0") + zlib.compress(bytes(1000)) + bytes(60)


BOMBS = {
    "png": png(60_000, 60_000),
    "png a little too large": png(6400, 6400),
    "gif": gif(60_000, 60_000, frame=(60_000, 60_000)),
    "gif with a large frame": gif(1, 1, frame=(60_000, 60_000)),
    "jpeg": jpeg(60_000, 60_000),
    "webp": webp(16_383, 16_383),
    "bmp": bmp(60_000, 60_000),
    "tiff": tiff(60_000, 60_000),
    "ppm": b"P6 60000 60000 255\n" + bytes(10),
}
