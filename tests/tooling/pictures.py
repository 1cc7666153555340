"""Small images and image files for tests of uploads."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

from PIL import Image, ImageCms

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(width: int = 64, height: int = 48) -> Image.Image:
    """Return an image whose rotations and mirrors all differ: red left half, blue right half, green corner."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    image.paste((0, 255, 0), (0, 0, width // 4, height // 4))
    return image


def file_of(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of an image file."""
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes, *, is_intact: bool = True) -> bytes:
    """Return a PNG chunk; its checksum is wrong unless `is_intact`."""
    checksum = zlib.crc32(kind + body) ^ (not is_intact)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png_of(
    width: int, height: int, depth: int, color_type: int, row: bytes, *chunks: bytes, late: bytes = b""
) -> bytes:
    """Return a PNG whose rows are all equal.

    Args:
        width: width in px.
        height: height in px.
        depth: bits of a sample.
        color_type: 0 gray, 2 RGB, 3 palette, 4 gray with alpha, 6 RGBA.
        row: samples of one row.
        chunks: chunks between header and pixels.
        late: chunks after the pixels.
    """
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress((b"\0" + row) * height))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + late + png_chunk(b"IEND", b"")


def png_header(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header declares the given size."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = header + png_chunk(b"IDAT", zlib.compress(b"\0")) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def insert_chunks(png: bytes, *chunks: bytes) -> bytes:
    """Return the PNG with chunks after its header chunk."""
    return png[:33] + b"".join(chunks) + png[33:]


def display_p3() -> bytes:
    """Return a valid RGB profile that differs from sRGB: its red and blue primaries are swapped."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {}
    for number in range(struct.unpack_from(">I", profile, 128)[0]):
        offset = 132 + 12 * number
        tags[bytes(profile[offset : offset + 4])] = offset
    red, blue = tags[b"rXYZ"] + 4, tags[b"bXYZ"] + 4
    profile[red : red + 8], profile[blue : blue + 8] = profile[blue : blue + 8], profile[red : red + 8]
    return bytes(profile)


def digital_source_type(png: bytes) -> str:
    """Return IPTC's digital source type, without its prefix, from the XMP packet of a PNG."""
    with Image.open(BytesIO(png)) as image:
        packet = ElementTree.fromstring(image.info["xmp"].strip())  # noqa: S314 (our own file)
    (found,) = packet.iter("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    prefix, _, name = (found.text or "").rpartition("/")
    assert prefix == "http://cv.iptc.org/newscodes/digitalsourcetype"
    return name
