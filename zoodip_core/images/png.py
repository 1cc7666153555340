"""Validates the chunks of a PNG and drops those that the pixels do not need."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PROFILE_BYTES = 1 << 20  # Pillow refuses larger ones
_GRAY, _RGB, _PALETTE = 0, 2, 3
_IS_ANCILLARY = 0x20  # bit of the first letter of a chunk's type


def strip_png(data: bytes) -> bytes:
    """Return the file with its critical chunks, transparency, color profile and EXIF only.

    Damaged or oversized ancillary chunks are dropped, because a decoder must not need them. Chunks of an animation
    are dropped, too: only the default image stays. Of each kind of ancillary chunk the first one counts, so that a
    file cannot have thousands of profiles to decompress. Pillow decodes some damaged files without an error, so this
    function verifies the checksums.

    Raises:
        ValueError: a critical chunk is damaged, or the file is truncated.
    """
    kept: list[bytes | memoryview] = [_SIGNATURE]
    header: tuple[int, int] | None = None
    seen: set[bytes] = set()
    for kind, body, raw, is_intact in _chunks(data):
        if not kind[0] & _IS_ANCILLARY:
            if not is_intact:
                raise ValueError(f"the checksum of a {kind!r} chunk is wrong")
            if kind == b"IHDR":
                header = _bit_depth_and_color_type(body)
            kept.append(raw)
        elif is_intact and header is not None and kind not in seen:
            seen.add(kind)
            kept.append(_ancillary(kind, body, raw, *header))
    return b"".join(kept)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview | bytes, bool]]:
    """Yield type, content, raw bytes and integrity of each chunk, up to the end chunk."""
    view, at = memoryview(data), len(_SIGNATURE)
    while True:
        if at + 8 > len(data):
            raise ValueError("the end chunk is missing")
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND":
            yield kind, view[:0], _chunk(kind, b""), True
            return
        end = at + 12 + length
        if end > len(data) or not kind.isalpha():
            raise ValueError(f"the chunk {kind!r} is truncated or malformed")
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        is_intact = zlib.crc32(view[at + 4 : end - 4]) == checksum
        yield kind, view[at + 8 : end - 4], view[at:end], is_intact
        at = end


def _bit_depth_and_color_type(header: memoryview) -> tuple[int, int]:
    if len(header) != 13:
        raise ValueError("the header chunk has a wrong length")
    return header[8], header[9]


def _ancillary(
    kind: bytes, body: memoryview, raw: memoryview | bytes, depth: int, color: int
) -> memoryview | bytes:
    """Return the chunk as the decoder needs it; empty for a chunk to drop."""
    if kind == b"tRNS":
        return _transparency(body, raw, depth, color)
    if kind == b"eXIf" or (kind == b"iCCP" and _is_profile_readable(bytes(body))):
        return raw
    return b""


def _transparency(body: memoryview, raw: memoryview | bytes, depth: int, color: int) -> memoryview | bytes:
    """Return the transparency chunk with its color in the scale of Pillow's pixels; empty if it is malformed."""
    if color == _PALETTE:
        return raw
    count = {_GRAY: 1, _RGB: 3}.get(color)
    if count is None or len(body) != 2 * count:
        return b""
    values = struct.unpack(f">{count}H", body)
    if color == _GRAY and depth in (2, 4):
        values = tuple((value % (1 << depth)) * 255 // ((1 << depth) - 1) for value in values)
    elif color == _RGB and depth == 16:
        values = tuple(value >> 8 for value in values)
    return _chunk(kind=b"tRNS", body=struct.pack(f">{count}H", *values))


def _is_profile_readable(body: bytes) -> bool:
    """Return whether the profile can be decompressed to at most 1 MiB."""
    name, separator, rest = body.partition(b"\0")
    if not (name and separator and rest[:1] == b"\0"):
        return False
    stream = zlib.decompressobj()
    try:
        stream.decompress(rest[1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return False
    return stream.eof


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
