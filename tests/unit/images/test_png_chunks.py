"""PNG files with large, damaged or unusual chunks."""

from __future__ import annotations

import zlib

import pytest
from PIL import ImageCms

from tests.tooling.pictures import display_p3, file_of, halves, insert_chunks, png_chunk, png_of
from zoodip_core.errors import InvalidImageError
from zoodip_core.images import decode_image

_LARGE = bytes(2_000_000)
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(_LARGE)),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(_LARGE)),
        png_chunk(b"tEXt", b"Comment\0" + _LARGE),
        png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(_LARGE)),
        png_chunk(b"iCCP", b"profile\0\0not zlib"),
        png_chunk(b"iCCP", b"profile\0\7" + zlib.compress(display_p3())),
        png_chunk(b"iCCP", b""),
        png_chunk(b"zTXt", b"Comment\0\7unknown compression"),
        png_chunk(b"eXIf", b"II*\0" + bytes(100), is_intact=False),
        png_chunk(b"tIME", b"\0"),
        png_chunk(b"gAMA", b"\0"),
        png_chunk(b"pHYs", b""),
        png_chunk(b"tRNS", b"\0"),
        png_chunk(b"tEXt", b"Comment\0damaged", is_intact=False),
        png_chunk(b"vpAg", bytes(9)),
    ],
    ids=[
        "large zTXt",
        "large iTXt",
        "large tEXt",
        "large iCCP",
        "damaged iCCP",
        "iCCP of unknown compression",
        "empty iCCP",
        "zTXt of unknown compression",
        "damaged eXIf",
        "short tIME",
        "short gAMA",
        "empty pHYs",
        "short tRNS",
        "damaged tEXt",
        "private chunk",
    ],
)
@pytest.mark.parametrize("is_late", [False, True], ids=["before pixels", "after pixels"])
def test_ancillary_chunks_never_make_a_file_unusable(chunk: bytes, is_late: bool) -> None:
    """Large, damaged and malformed ancillary chunks are skipped; the pixels stay as they are."""
    data = file_of(halves())
    changed = data[:-12] + chunk + data[-12:] if is_late else insert_chunks(data, chunk)
    assert decode_image(changed, name="a") == halves()


def test_many_text_chunks_are_skipped() -> None:
    """No total of text memory is counted."""
    chunks = [png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000)))] * 80
    assert decode_image(insert_chunks(file_of(halves()), *chunks), name="a") == halves()


def test_only_the_first_profile_counts() -> None:
    """A file with thousands of profiles costs no more than one with a single profile."""
    profiles = [png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(data)) for data in (_SRGB, display_p3())]
    assert decode_image(insert_chunks(file_of(halves()), *profiles), name="a") == halves()


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT"])
def test_a_damaged_critical_chunk_is_an_error(kind: bytes) -> None:
    """A wrong checksum of a header, a palette or pixels is damage."""
    data = bytearray(file_of(halves().quantize(8)))
    at = data.index(kind)
    length = int.from_bytes(data[at - 4 : at], "big")
    data[at + 4 + length] ^= 1
    with pytest.raises(InvalidImageError, match="truncated or damaged PNG"):
        decode_image(bytes(data), name="a")


def test_data_after_the_end_is_ignored() -> None:
    """Some programs append their own data to a PNG."""
    assert decode_image(file_of(halves()) + b"appended", name="a") == halves()


def test_a_second_header_does_not_bypass_the_limits() -> None:
    """The size that the decoder uses is validated."""
    header = png_of(20_000, 40, 8, 2, b"")[8:33]
    with pytest.raises(InvalidImageError, match="sides of 32 to 16384 px"):
        decode_image(insert_chunks(file_of(halves()), header), name="a")
