"""Rules for the list of entries of a ZIP file of images, checked before anything is unpacked."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from zoodip_core.errors import InvalidInputError
from zoodip_core.images import formats
from zoodip_core.images.caption_files import CAPTION_SUFFIX, MAX_CAPTION_BYTES
from zoodip_core.images.limits import MAX_IMAGES, ImageLimits

Refusal = Callable[[str, str], InvalidInputError]
"""Returns the error for an archive, given what was found and what is expected."""

MAX_ENTRIES = 100
_MAX_DIRECTORY_BYTES = 50_000  # of the list of entries, which zipfile reads as a whole
_END = struct.Struct("<4s4H2LH")  # end record: entries at 4, size of their list at 5
_END_SIGNATURE, _ZIP64_SIGNATURE = b"PK\x05\x06", b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_MAX_COMMENT_BYTES = 1 << 16
_IMAGE_SUFFIXES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp"),
    *(".heic", ".heif", ".hif", ".heics", ".heifs", ".avif", ".avifs"),
}
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CLUTTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}  # files that operating systems add
_A_ZIP_FILE = "a ZIP file of images"


@dataclass(frozen=True)
class ImageEntry:
    """Entry of an image, and that of its caption if it has one."""

    image: zipfile.ZipInfo
    caption: zipfile.ZipInfo | None


def read_entries(file: IO[bytes], limits: ImageLimits, refused: Refusal) -> list[ImageEntry]:
    """Validate the list of entries of a ZIP file. Nothing is unpacked.

    Args:
        file: the ZIP file, which can seek.
        limits: limits of each image.
        refused: returns the error to raise.

    Returns:
        The entries of the images, in the order of their names. Hidden files and what operating systems add are left
        out.

    Raises:
        InvalidInputError: The file is no ZIP file, has too many entries, or has an entry that is not allowed.
    """
    _check_directory(file, refused)
    try:
        entries = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise refused("a damaged ZIP file", _A_ZIP_FILE) from error
    for entry in entries:
        _check_path(entry, refused)
    kept = sorted((entry for entry in entries if not _is_clutter(entry)), key=lambda entry: entry.filename)
    for entry in kept:
        _check_entry(entry, limits, refused)
    return _paired(kept, refused)


def _check_directory(file: IO[bytes], refused: Refusal) -> None:
    """Validate the size of the list of entries, as the end record declares it, before zipfile reads the list."""
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, size_bytes - _END.size - _MAX_COMMENT_BYTES - _ZIP64_LOCATOR_BYTES))
    tail = file.read()
    start = len(tail) - _END.size
    has_comment = tail[max(0, start) : start + 4] != _END_SIGNATURE or tail[-2:] != b"\0\0"
    if has_comment:  # it follows the record
        start = tail.rfind(_END_SIGNATURE, max(0, start - _MAX_COMMENT_BYTES))
    if start < 0 or start + _END.size > len(tail):
        raise refused("a file that is no ZIP file", _A_ZIP_FILE)
    _, _, _, _, entries, directory_bytes, _, _ = _END.unpack_from(tail, start)
    is_zip64 = tail[max(0, start - _ZIP64_LOCATOR_BYTES) : start].startswith(_ZIP64_SIGNATURE)
    if is_zip64 or entries > MAX_ENTRIES or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise refused("too many entries", f"at most {MAX_ENTRIES}")


def _check_path(entry: zipfile.ZipInfo, refused: Refusal) -> None:
    path = PurePosixPath(entry.filename)
    has_separator = any(character in entry.orig_filename for character in "\\:\0")
    if not path.parts or path.is_absolute() or ".." in path.parts or has_separator:
        raise refused(f"the entry {entry.filename!r}", "names inside the archive")


def _check_entry(entry: zipfile.ZipInfo, limits: ImageLimits, refused: Refusal) -> None:
    got = f"the entry {entry.filename!r}"
    if not _is_caption(entry) and PurePosixPath(entry.filename).suffix.lower() not in _IMAGE_SUFFIXES:
        raise refused(got, f"{formats.EXPECTED} images and {CAPTION_SUFFIX} captions only")
    if (
        entry.flag_bits & 1
        or entry.compress_type not in _COMPRESSIONS
        or stat.S_ISLNK(entry.external_attr >> 16)
    ):
        got = f"{got}, which is encrypted, a link or compressed in another way"
        raise refused(got, "stored or deflated files")
    limit = MAX_CAPTION_BYTES if _is_caption(entry) else limits.max_file_bytes
    if entry.file_size > limit:
        raise refused(f"{got} of {entry.file_size:,} bytes", f"at most {limit:,} bytes")


def _paired(entries: list[zipfile.ZipInfo], refused: Refusal) -> list[ImageEntry]:
    """Return each image with its caption. A caption belongs to exactly one image."""
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise refused("two entries of one name", "different names")
    images = [entry for entry in entries if not _is_caption(entry)]
    if not 1 <= len(images) <= MAX_IMAGES:
        raise refused(f"{len(images)} images", f"1 to {MAX_IMAGES}")
    texts = [entry for entry in entries if _is_caption(entry)]
    captions = {_stem(entry): entry for entry in texts}
    if len(captions) < len(texts):  # such as a.txt and a.TXT
        raise refused("two captions for one image", "one caption for an image")
    stems = [_stem(entry) for entry in images]
    for stem, entry in captions.items():
        if stems.count(stem) != 1:
            raise refused(f"the caption {entry.filename!r}", "one image of the same name")
    return [ImageEntry(entry, captions.get(_stem(entry))) for entry in images]


def _is_clutter(entry: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(entry.filename).parts
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return entry.is_dir() or hidden or parts[-1].lower() in _CLUTTER


def _is_caption(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.lower().endswith(CAPTION_SUFFIX)


def _stem(entry: zipfile.ZipInfo) -> str:
    return str(PurePosixPath(entry.filename).with_suffix(""))
