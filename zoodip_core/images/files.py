"""Reads reference images and their captions from files, folders and ZIP files."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from zoodip_core.errors import InvalidImageError, InvalidInputError
from zoodip_core.images import formats
from zoodip_core.images.archive import ImageArchive, is_archive
from zoodip_core.images.caption_files import CAPTION_SUFFIX, MAX_CAPTION_BYTES, caption_text
from zoodip_core.images.crop import CROP_FIELD, Crop
from zoodip_core.images.decode import DEFAULT_LIMITS, decode_image_file
from zoodip_core.images.limits import MAX_IMAGES, ImageLimits, check_image_count, invalid_image

_STRICT_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".jfif", ".webp"))
_NO_CROPS: Mapping[str, Crop] = {}


@dataclass(frozen=True)
class ReferenceImages:
    """Reference images as read from files.

    Attributes:
        images: decoded images, in order, as `read_images` returns them.
        names: file name of each image.
        captions: first line with text of the `.txt` file of each image; empty if it has none, None without a file.
        crops: square that was cut out of each image; None for a whole image.
        skipped: files that were not read, each with the reason, such as `b.jxl (JPEG XL)`.
    """

    images: list[Image.Image]
    names: list[str]
    captions: list[str | None]
    crops: list[Crop | None]
    skipped: list[str]


def read_images(paths: Sequence[Path]) -> list[Image.Image]:
    """Read the images at `paths`, in order. A folder or a ZIP file means the images in it, sorted by name.

    The short side of each image is reduced to at most 1,024 px. An image with transparent pixels is RGBA: its colors
    are flattened on white, its alpha is the opacity. Other images are RGB.

    Raises:
        ImageCountError: there are no images, or more than 16.
        ImageTooLargeError: a file is larger than 10 MB.
        InvalidImageError: a file is missing, unreadable or not a usable image.
        InvalidInputError: a ZIP file is damaged or not allowed.
    """
    return read_reference_images(paths).images


def read_reference_images(
    paths: Sequence[Path], limits: ImageLimits = DEFAULT_LIMITS, crops: Mapping[str, Crop] = _NO_CROPS
) -> ReferenceImages:
    """Read the images at `paths` and the captions in `.txt` files of the same names, in order.

    A path to a file must be a usable image. A folder means the images in it, sorted by name: its PNG, JPEG and
    WebP files must be usable, and other files are skipped if they cannot be read. Hidden files are ignored. A ZIP
    file means the images in it, which must all be usable.

    Args:
        paths: files, folders and ZIP files.
        limits: limits of bytes and pixels of each file.
        crops: square to cut out of each file, by file name; other files are not cropped.

    Raises:
        InvalidInputError: a crop names no file or is not inside its image, or a ZIP file is damaged or not allowed.
        ImageCountError: there are no images, or more than 16.
        ImageTooLargeError: a file has too many bytes.
        InvalidImageError: a file is missing, unreadable or not a usable image.
    """
    with ExitStack() as opened:
        found = _Found(limits, opened)
        for path in paths:
            found.add(path)
        if len(found.sources) > MAX_IMAGES:
            check_image_count(len(found.sources), sources=paths)
        _check_crop_names(crops, [source.name for source in found.sources])
        read = ReferenceImages([], [], [], [], found.skipped)
        for source in found.sources:
            _decode(source, limits, crops.get(source.name), read)
    read.skipped.sort()
    check_image_count(len(read.images), sources=paths, skipped=read.skipped)
    return read


def _check_crop_names(crops: Mapping[str, Crop], names: Sequence[str]) -> None:
    for name in crops:
        if names.count(name) != 1:
            expected = f"one file of: {', '.join(names)}"
            raise InvalidInputError.mismatch(CROP_FIELD, got=repr(name), expected=expected)


@dataclass(frozen=True)
class _Source:
    """An image to read.

    Attributes:
        name: file name.
        read: returns the content.
        caption: returns the text of its caption file; None without one.
        must_be_usable: whether it is an error if it is no usable image; otherwise it is skipped.
    """

    name: str
    read: Callable[[], bytes]
    caption: Callable[[], str | None]
    must_be_usable: bool = True


def _decode(source: _Source, limits: ImageLimits, crop: Crop | None, read: ReferenceImages) -> None:
    """Decode an image and add it to those that are read, or to those that are skipped."""
    try:
        image, _ = decode_image_file(source.read(), name=source.name, limits=limits, crop=crop)
    except InvalidImageError as error:
        if source.must_be_usable:
            raise
        read.skipped.append(f"{source.name} ({error.reason})")
        return
    read.images.append(image)
    read.names.append(source.name)
    read.captions.append(source.caption())
    read.crops.append(crop)


class _Found:
    """Images to read, and descriptions of the files to skip. `opened` closes the ZIP files."""

    def __init__(self, limits: ImageLimits, opened: ExitStack) -> None:
        self.sources: list[_Source] = []
        self.skipped: list[str] = []
        self._limits = limits
        self._opened = opened

    def add(self, path: Path) -> None:
        """Add a file, the entries of a folder, or those of a ZIP file."""
        if path.is_dir():
            self._add_folder(path)
        elif path.is_file() and is_archive(_head(path)):
            self._add_archive(path)
        else:
            self._add_file(path)

    def _add_file(self, path: Path, *, must_be_usable: bool = True) -> None:
        read, caption = partial(_read, path, self._limits), partial(_caption_of, path)
        self.sources.append(_Source(path.name, read, caption, must_be_usable))

    def _add_archive(self, path: Path) -> None:
        file = self._opened.enter_context(path.open("rb"))
        for image in ImageArchive(file, path.name, self._limits).images():
            self.sources.append(_Source(image.name, image.read, partial(getattr, image, "caption")))

    def _add_folder(self, path: Path) -> None:
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
            self._add_file(entry, must_be_usable=is_strict)
        elif not _is_caption(entry):
            self.skipped.append(f"{entry.name} ({found})")


def _is_caption(file: Path) -> bool:
    """Return whether the file is a text file next to a file of the same stem."""
    is_text = file.suffix.lower() == CAPTION_SUFFIX
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
            return caption_text(stream.read(MAX_CAPTION_BYTES))
    except (IndexError, OSError):
        return None
