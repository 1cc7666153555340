"""Decodes uploaded image files to upright sRGB images without metadata."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import zlib
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from zoodip_core.errors import ImageCountError, ImageTooLargeError, InvalidImageError
from zoodip_core.input_warnings import InputWarning, WarningCode
from zoodip_core.pixels import on_white, stripped, upright

MAX_IMAGES = 16
MAX_FILE_BYTES = 10_000_000
MIN_SIDE_PX = 32
MAX_SIDE_PX = 16_384
MAX_PIXELS = 40_000_000
MAX_ASPECT = 20
MAX_CROPPED = 0.34  # share of the image that the square crop can lose without a warning

_FORMATS = "PNG, JPEG or WebP"
_FIELD = "images"
_SNIFF_BYTES = 16
_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif")
)

# Other formats are recognized only to name them in the error message.
_MAGIC = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBPVP8", "WebP"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\x03\x04", "a zip file"),
)

# Exceptions and warnings of Pillow for truncated or damaged files.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error),
    UserWarning,
)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_images(paths: Sequence[Path]) -> list[Image.Image]:
    """Read the images at `paths`, in order. A folder means the images in it, sorted by name.

    Raises:
        ImageCountError: there are no images, or more than 16.
        ImageTooLargeError: a file is larger than 10 MB.
        InvalidImageError: a file is missing, unreadable or not a usable image.
    """
    files = [file for path in paths for file in _expand(path)]
    check_image_count(len(files), sources=paths)
    return [decode_image(_read(file), name=file.name) for file in files]


def check_image_count(count: int, *, sources: Sequence[Path] = ()) -> None:
    """Validate the number of reference images: 1 to 16.

    Raises:
        ImageCountError: there are no images, or more than 16.
    """
    if not 1 <= count <= MAX_IMAGES:
        places = f" from {', '.join(str(path) for path in sources)}" if sources else ""
        raise ImageCountError.mismatch(_FIELD, got=f"{count}{places}", expected=f"1 to {MAX_IMAGES}")


def decode_image(data: bytes, *, name: str) -> Image.Image:
    """Decode the first frame of an image file: upright, sRGB, flattened on white, without metadata.

    Args:
        data: content of a PNG, JPEG or WebP file. The content decides the format, not the name.
        name: name of the file in error messages.

    Raises:
        ImageTooLargeError: the file is larger than 10 MB.
        InvalidImageError: the format is not allowed, a size is out of range, or the file is damaged.
    """
    _check_bytes(len(data), name)
    image_format = _sniff(data)
    if image_format not in {"PNG", "JPEG", "WebP"}:
        raise _invalid(name, image_format or "unknown format", _FORMATS)
    try:
        if image_format == "PNG":
            # Pillow decodes a truncated PNG without an error; verify() checks its checksums.
            with Image.open(BytesIO(data), formats=["PNG"]) as checked:
                _check_size(checked.size, name)
                checked.verify()
        with Image.open(BytesIO(data), formats=[image_format]) as image:
            _check_size(image.size, name)
            image.load()
            return stripped(on_white(upright(image)))
    except _BOMB as error:
        raise _invalid(name, "too many pixels", f"at most {MAX_PIXELS // 10**6} megapixels") from error
    except _DAMAGE as error:
        raise _invalid(name, f"a truncated or damaged {image_format} file", _FORMATS) from error


def encode_png(image: Image.Image) -> bytes:
    """Encode the pixels as PNG without metadata. Equal images give equal bytes."""
    buffer = BytesIO()
    stripped(image.convert("RGB")).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def fit_square(image: Image.Image, side_px: int) -> Image.Image:
    """Crop the image to its center square and resize it to `side_px`, as the base model trains on it."""
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    square = image.crop((left, top, left + short, top + short))
    return square.resize((side_px, side_px), Image.Resampling.LANCZOS)


def image_warnings(images: Iterable[Image.Image], side_px: int | None) -> list[InputWarning]:
    """Return warnings about usable images: too small, far from square, or duplicates.

    Args:
        images: iterated once; none is kept in memory.
        side_px: side of the base model's training images, if known.
    """
    warnings = []
    first_seen: dict[bytes, int] = {}
    for number, (width, height, pixels) in enumerate(map(_size_and_digest, images), start=1):
        short, long = sorted((width, height))
        shape = f"image {number} has {width}×{height} px"
        if side_px is not None and short < side_px:
            message = f"{shape}: it is enlarged to the {side_px} px of the base model's training images"
            warnings.append(InputWarning(WarningCode.IMAGE_ENLARGED, _FIELD, message))
        if 1 - short / long > MAX_CROPPED:
            message = f"{shape}: only its center square is used, {1 - short / long:.0%} is cut off"
            warnings.append(InputWarning(WarningCode.IMAGE_CROPPED, _FIELD, message))
        if pixels in first_seen:
            message = f"images {first_seen[pixels]} and {number} are identical"
            warnings.append(InputWarning(WarningCode.IMAGES_IDENTICAL, _FIELD, message))
        first_seen.setdefault(pixels, number)
    return warnings


def _size_and_digest(image: Image.Image) -> tuple[int, int, bytes]:
    """Return width, height and a digest of the pixels."""
    digest = hashlib.sha256(repr(image.size).encode())
    digest.update(image.tobytes())
    return *image.size, digest.digest()


def _expand(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.is_file() and _looks_like_image(file))


def _looks_like_image(file: Path) -> bool:
    """Return whether name or content suggests an image. Captions are skipped; a broken image is not."""
    if file.name.startswith("."):
        return False
    if file.suffix.lower() in _SUFFIXES:
        return True
    with contextlib.suppress(OSError), file.open("rb") as stream:
        return _sniff(stream.read(_SNIFF_BYTES)) in {"PNG", "JPEG", "WebP"}
    return False


def _read(file: Path) -> bytes:
    try:
        _check_bytes(file.stat().st_size, file.name)
        return file.read_bytes()
    except OSError as error:
        raise _invalid(str(file), f"unreadable: {error.strerror}", "a readable file") from error


def _sniff(data: bytes) -> str | None:
    if not data:
        return "an empty file"
    return next((kind for at, magic, kind in _MAGIC if data[at : at + len(magic)] == magic), None)


def _check_bytes(size_bytes: int, name: str) -> None:
    if size_bytes > MAX_FILE_BYTES:
        raise ImageTooLargeError.mismatch(
            _FIELD, got=f"{name!r} with {size_bytes:,} bytes", expected=f"at most {MAX_FILE_BYTES:,} bytes"
        )


def _check_size(size_px: tuple[int, int], name: str) -> None:
    short, long = sorted(size_px)
    got = f"{size_px[0]}×{size_px[1]} px"
    if short < MIN_SIDE_PX or long > MAX_SIDE_PX:
        raise _invalid(name, got, f"sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} px")
    if short * long > MAX_PIXELS:
        raise _invalid(name, got, f"at most {MAX_PIXELS // 10**6} megapixels")
    if long > MAX_ASPECT * short:
        raise _invalid(name, got, f"a long side of at most {MAX_ASPECT} times the short one")


def _invalid(name: str, got: str, expected: str) -> InvalidImageError:
    return InvalidImageError.mismatch(_FIELD, got=f"{name!r} ({got})", expected=expected)
