"""Text chunks of a PNG file, read without decoding the image or inflating anything."""

from __future__ import annotations

import struct

from zoodip_core.errors import InvalidInputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">I4s")  # length and type of a chunk
_CHECKSUM_BYTES = 4


def text_chunks(png: bytes) -> dict[str, str]:
    """Return the uncompressed text chunks of a PNG file by keyword. Compressed ones are left out.

    Raises:
        InvalidInputError: The content is not a PNG file.
    """
    if not png.startswith(_SIGNATURE):
        raise InvalidInputError.mismatch("image", got="another file", expected="a PNG file")
    found: dict[str, str] = {}
    position = len(_SIGNATURE)
    while position + _HEAD.size <= len(png):
        length, kind = _HEAD.unpack_from(png, position)
        begin = position + _HEAD.size
        keyword, _, rest = png[begin : begin + length].partition(b"\0")
        if kind == b"tEXt":
            found[keyword.decode("latin-1")] = rest.decode("latin-1")
        elif (
            kind == b"iTXt" and rest[:1] == b"\0"
        ):  # not compressed; then language and translated keyword follow
            found[keyword.decode("latin-1")] = rest.split(b"\0", 4)[-1].decode("utf-8", "replace")
        position = begin + length + _CHECKSUM_BYTES
    return found
