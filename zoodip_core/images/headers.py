"""Facts of JPEG and WebP files that are read before a decoder allocates memory."""

from __future__ import annotations

import re

MAX_SCANS = 32  # encoders write 1 to 20; each scan of a progressive JPEG costs a pass over all pixels

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # FF00 is data, FFD0 to FFD7 are restart markers
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = frozenset((0x01, 0xD8))


def count_scans(data: bytes) -> int:
    """Return the number of scans of the first image of a JPEG file. A baseline file usually has one."""
    scans, at = 0, 0
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = data[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN
        if marker not in _WITHOUT_LENGTH:
            at += int.from_bytes(data[at : at + 2], "big")
    return scans


def webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a WebP file. Its decoder allocates them before they can be validated.

    Raises:
        ValueError: the header is damaged.
    """
    kind = data[12:16]
    if len(data) < 30:
        raise ValueError("the header is truncated")
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
        return width, height
    raise ValueError("the header is damaged")
