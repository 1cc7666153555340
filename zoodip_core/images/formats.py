"""Recognizes image formats by content, and by suffix where the content is ambiguous."""

from __future__ import annotations

from pathlib import PurePath

SNIFF_BYTES = 256
PNG, JPEG, WEBP, AVIF, HEIC, HEIF = "PNG", "JPEG", "WebP", "AVIF", "HEIC", "HEIF"
ALWAYS_READABLE = frozenset((PNG, JPEG, WEBP))
READABLE = ALWAYS_READABLE | {AVIF, HEIC, HEIF}
EXPECTED = "PNG, JPEG, WebP, HEIC or AVIF"
EMPTY = "an empty file"

# (offset, signature, name). Formats that are not readable are recognized only to name them in messages.
_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", PNG),
    (0, b"\xff\xd8\xff", JPEG),
    (8, b"WEBPVP8", WEBP),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "BigTIFF"),
    (0, b"MM\x00+", "BigTIFF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
    (0, b"FUJIFILMCCD-RAW", "camera raw"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\x03\x04", "a zip file"),
)
# Brands of ISO base media files. HEVC-coded images, AV1-coded images, and containers of either.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), HEIC),
    **dict.fromkeys((b"avif", b"avis"), AVIF),
    b"crx ": "camera raw",
    **dict.fromkeys((b"qt  ", b"isom", b"mp41", b"mp42", b"M4V "), "a video"),
}
_CONTAINER_BRANDS = frozenset((b"mif1", b"mif2", b"msf1", b"miaf"))
# Formats that share a signature with others, and formats without a signature.
_SUFFIXES = {
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"), "camera raw"),
    ".dng": "DNG",
    ".tga": "TGA",
    ".svg": "SVG",
    ".jxl": "JPEG XL",
    **dict.fromkeys((".mov", ".mp4"), "a video"),
}


def identify(data: bytes) -> str | None:
    """Return the name of the format of a file from its first `SNIFF_BYTES` bytes; None if it is unknown."""
    if not data:
        return EMPTY
    if data[4:8] == b"ftyp":
        return _identify_brand(data)
    return next((kind for at, magic, kind in _SIGNATURES if data[at : at + len(magic)] == magic), None)


def describe(name: str, data: bytes) -> str:
    """Return the format of a file for a message.

    Args:
        name: name of the file; some formats are known only by their suffix.
        data: first `SNIFF_BYTES` bytes of the file.
    """
    found = identify(data)
    if found == EMPTY or found in READABLE:
        return found
    return _SUFFIXES.get(PurePath(name).suffix.lower()) or found or "unknown format"


def _identify_brand(data: bytes) -> str | None:
    """Return the format that the `ftyp` box declares. A container brand needs a second, compatible brand."""
    size = min(int.from_bytes(data[:4], "big"), SNIFF_BYTES)
    major = data[8:12]
    if major not in _CONTAINER_BRANDS:
        return _BRANDS.get(major)
    compatible = {data[at : at + 4] for at in range(16, size - 3, 4)}
    named = {_BRANDS[brand] for brand in compatible & _BRANDS.keys()} & {HEIC, AVIF}
    return named.pop() if len(named) == 1 else HEIF
