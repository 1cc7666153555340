"""Reads reference images and their captions from files and folders."""

from __future__ import annotations

import codecs
import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from zoodip_core.errors import InvalidImageError, InvalidInputError
from zoodip_core.images import formats
from zoodip_core.images.crop import CROP_FIELD, Crop
from zoodip_core.images.decode import DEFAULT_LIMITS, decode_image_file
from zoodip_core.images.limits import MAX_IMAGES, ImageLimits, check_image_count, invalid_image

_STRICT_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".jfif", ".webp"))
_CAPTION_SUFFIX = ".txt"
_MAX_CAPTION_BYTES = 10_000
_NO_CROPS: Mapping[str, Crop] = {}


@dataclass(frozen=True)
class ReferenceImages:
    """Reference images as read from files.

    Attributes:
        images: decoded images, in order, as `read_images` returns them.
        names: file name of each image.
        captions: first line with text of the `.txt` file of each image; empty if it has none, None without a file.
        skipped: files that were not read, each with the reason, such as `b.jxl (JPEG XL)`.
    """

    images: list[Image.Image]
    names: list[str]
    captions: list[str | None]
    skipped: list[str]


def read_images(paths: Sequence[Path]) -> list[Image.Image]:
    """Read the images at `paths`, in order. A folder means the images in it, sorted by name.

    The short side of each image is reduced to at most 1,024 px. An image with transparent pixels is RGBA: its colors
    are flattened on white, its alpha is the opacity. Other images are RGB.

    Raises:
        ImageCountError: there are no images, or more than 16.
        ImageTooLargeError: a file is larger than 10 MB.
        InvalidImageError: a file is missing, unreadable or not a usable image.
    """
    return read_reference_images(paths).images


def read_reference_images(
    paths: Sequence[Path], limits: ImageLimits = DEFAULT_LIMITS, crops: Mapping[str, Crop] = _NO_CROPS
) -> ReferenceImages:
    """Read the images at `paths` and the captions in `.txt` files of the same names, in order.

    A path to a file must be a usable image. A folder means the images in it, sorted by name: its PNG, JPEG and
    WebP files must be usable, and other files are skipped if they cannot be read. Hidden files are ignored.

    Args:
        paths: files and folders.
        limits: limits of bytes and pixels of each file.
        crops: square to cut out of each file, by file name; other files are not cropped.

    Raises:
        InvalidInputError: a crop names no file, or is not inside its image.
        ImageCountError: there are no images, or more than 16.
        ImageTooLargeError: a file has too many bytes.
        InvalidImageError: a file is missing, unreadable or not a usable image.
    """
    found = _Found()
    for path in paths:
        found.add(path)
    if len(found.files) > MAX_IMAGES:
        check_image_count(len(found.files), sources=paths)
    _check_crop_names(crops, [file.name for file, _ in found.files])
    read = ReferenceImages([], [], [], found.skipped)
    for file, must_be_usable in found.files:
        try:
            image, _ = decode_image_file(
                _read(file, limits), name=file.name, limits=limits, crop=crops.get(file.name)
            )
        except InvalidImageError as error:
            if must_be_usable:
                raise
            read.skipped.append(f"{file.name} ({error.reason})")
            continue
        read.images.append(image)
        read.names.append(file.name)
        read.captions.append(_caption_of(file))
    read.skipped.sort()
    check_image_count(len(read.images), sources=paths, skipped=read.skipped)
    return read


def _check_crop_names(crops: Mapping[str, Crop], names: Sequence[str]) -> None:
    for name in crops:
        if names.count(name) != 1:
            expected = f"one file of: {', '.join(names)}"
            raise InvalidInputError.mismatch(CROP_FIELD, got=repr(name), expected=expected)


class _Found:
    """Files to read, each with whether it must be usable, and descriptions of the files to skip."""

    def __init__(self) -> None:
        self.files: list[tuple[Path, bool]] = []
        self.skipped: list[str] = []

    def add(self, path: Path) -> None:
        """Add a file, or the entries of a folder."""
        if not path.is_dir():
            self.files.append((path, True))
            return
        try:
            entries = sorted(path.iterdir())
        except OSError as error:
            raise invalid_image(str(path), f"unreadable: {error.strerror}", "a readable folder") from error
        for entry in entries:
            if entry.is_file() and not entry.name.startswith("."):
                self._add_entry(entry)
            elif not entry.name.startswith("."):
                self.skipped.append(f"{entry.name} ({'a folder' if entry.is_dir() else 'no regular file'})")

    def _add_entry(self, entry: Path) -> None:
        found = formats.describe(entry.name, _head(entry))
        is_strict = found in formats.ALWAYS_READABLE or entry.suffix.lower() in _STRICT_SUFFIXES
        if is_strict or found in formats.READABLE:
            self.files.append((entry, is_strict))
        elif not _is_caption(entry):
            self.skipped.append(f"{entry.name} ({found})")


def _is_caption(file: Path) -> bool:
    """Return whether the file is a text file next to a file of the same stem."""
    is_text = file.suffix.lower() == _CAPTION_SUFFIX
    return is_text and any(other != file for other in file.parent.glob(f"{glob.escape(file.stem)}.*"))


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(formats.SNIFF_BYTES)
    except OSError:
        return b""


def _read(file: Path, limits: ImageLimits) -> bytes:
    """Read a file, but not much more than the largest allowed one: a device has no size."""
    try:
        limits.check_bytes(file.stat().st_size, file.name)
        with file.open("rb") as stream:
            return stream.read(limits.max_file_bytes + 1)
    except OSError as error:
        raise invalid_image(str(file), f"unreadable: {error.strerror}", "a readable file") from error


def _caption_of(image: Path) -> str | None:
    """Return the first line with text of the caption file of an image; None if there is no file."""
    files = sorted(image.parent.glob(f"{glob.escape(image.stem)}.[tT][xX][tT]"))
    try:
        with files[0].open("rb") as stream:
            text = _decoded(stream.read(_MAX_CAPTION_BYTES))
    except (IndexError, OSError):
        return None
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _decoded(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 with its byte order mark, as editors on Windows write it."""
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_utf16 else "utf-8-sig", "replace")
