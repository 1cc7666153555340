"""Training files: a ZIP of images with optional `.txt` captions of the same names, checked before it is unpacked."""

from __future__ import annotations

import hashlib
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath

from api.requests.form_reader import UploadedFile
from zoodip_core.errors import InvalidCaptionError, InvalidInputError
from zoodip_core.images import MAX_IMAGES
from zoodip_core.images.limits import ImageLimits

FIELD = "training_file"
MAX_BYTES = 50_000_000
_MAX_ENTRIES = 100
_MAX_DIRECTORY_BYTES = 50_000  # of the list of entries, which zipfile reads as a whole
_MAX_CAPTION_BYTES = 4_000
_END = struct.Struct("<4s4H2LH")  # end record: entries at 4, size of their list at 5
_END_SIGNATURE, _ZIP64_SIGNATURE = b"PK\x05\x06", b"PK\x06\x07"
_MAX_COMMENT_BYTES = 1 << 16
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".heic", ".heif", ".avif"}
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CLUTTER = {"thumbs.db", "desktop.ini"}  # files that operating systems add


@dataclass(frozen=True)
class TrainingImages:
    """Images of a training file in the order of their names, and their captions; None without any caption."""

    files: list[UploadedFile]
    captions: list[str] | None


def check_archive(content: bytes, limits: ImageLimits) -> list[zipfile.ZipInfo]:
    """Validate the list of entries of a training file. Nothing is unpacked.

    Args:
        content: the ZIP file.
        limits: limits of each image.

    Returns:
        The entries of images and captions, in the order of their names.

    Raises:
        InvalidInputError: The file is no ZIP file, has too many entries, or has an entry that is not allowed.
    """
    _check_directory(content)
    try:
        entries = zipfile.ZipFile(BytesIO(content)).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _refused("a damaged ZIP file") from error
    for entry in entries:
        _check_path(entry)
    kept = sorted((entry for entry in entries if not _is_clutter(entry)), key=lambda entry: entry.filename)
    for entry in kept:
        _check_entry(entry, limits)
    names = [entry.filename for entry in kept]
    if len(set(names)) < len(names):
        raise _refused("two entries of one name")
    images = [entry for entry in kept if not _is_caption(entry)]
    if not 1 <= len(images) <= MAX_IMAGES:
        raise _refused(f"{len(images)} images", f"1 to {MAX_IMAGES}")
    stems = [_stem(entry) for entry in images]
    for entry in kept:
        if _is_caption(entry) and stems.count(_stem(entry)) != 1:
            raise _refused(f"the caption {entry.filename!r}", "one image of the same name")
    return kept


@contextmanager
def unpacked(content: bytes, limits: ImageLimits) -> Iterator[TrainingImages]:
    """Unpack a training file to a temporary file, which is deleted at the end of the block.

    Raises:
        InvalidInputError: As in `check_archive`, or the compressed data are damaged.
        InvalidCaptionError: Only some of the images have a caption.
    """
    entries = check_archive(content, limits)
    files: list[UploadedFile] = []
    captions: dict[str, str] = {}
    with tempfile.TemporaryFile() as storage, zipfile.ZipFile(BytesIO(content)) as archive:
        for entry in entries:
            data = _read(archive, entry)
            if _is_caption(entry):
                captions[_stem(entry)] = _text(entry, data)
                continue
            file = UploadedFile(PurePosixPath(entry.filename).name, storage, storage.tell(), len(data))
            file.digest = hashlib.sha256(data)
            storage.write(data)
            files.append(file)
        storage.flush()
        stems = [_stem(entry) for entry in entries if not _is_caption(entry)]
        yield TrainingImages(files, _in_order(stems, captions) if captions else None)


def _check_directory(content: bytes) -> None:
    """Validate the size of the list of entries, as the end record declares it, before zipfile reads the list."""
    start = len(content) - _END.size
    has_comment = content[start : start + 4] != _END_SIGNATURE or content[-2:] != b"\0\0"
    if has_comment:  # it follows the record
        start = content.rfind(_END_SIGNATURE, max(0, start - _MAX_COMMENT_BYTES))
    if start < 0 or start + _END.size > len(content):
        raise _refused("a file that is no ZIP file")
    _, _, _, _, entries, size_bytes, _, _ = _END.unpack_from(content, start)
    is_zip64 = content[max(0, start - 20) : start].startswith(_ZIP64_SIGNATURE)
    if is_zip64 or entries > _MAX_ENTRIES or size_bytes > _MAX_DIRECTORY_BYTES:
        raise _refused("too many entries", f"at most {_MAX_ENTRIES}")


def _check_path(entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename)
    has_separator = any(character in entry.orig_filename for character in "\\:\0")
    if not path.parts or path.is_absolute() or ".." in path.parts or has_separator:
        raise _refused(f"the entry {entry.filename!r}", "names inside the archive")


def _check_entry(entry: zipfile.ZipInfo, limits: ImageLimits) -> None:
    got = f"the entry {entry.filename!r}"
    suffix = PurePosixPath(entry.filename).suffix.lower()
    if suffix not in _IMAGE_SUFFIXES and suffix != ".txt":
        raise _refused(got, "images and .txt captions only")
    if (
        entry.flag_bits & 1
        or entry.compress_type not in _COMPRESSIONS
        or stat.S_ISLNK(entry.external_attr >> 16)
    ):
        raise _refused(
            f"{got}, which is encrypted, a link or compressed in another way", "stored or deflated files"
        )
    limit = _MAX_CAPTION_BYTES if suffix == ".txt" else limits.max_file_bytes
    if entry.file_size > limit:
        raise _refused(f"{got} of {entry.file_size:,} bytes", f"at most {limit:,} bytes")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(entry) as file:
            return file.read(entry.file_size)  # with a size, zipfile never inflates more than that
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise _refused(f"the damaged entry {entry.filename!r}") from error


def _text(entry: zipfile.ZipInfo, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise _refused(f"the caption {entry.filename!r} in another encoding", "UTF-8") from error


def _in_order(stems: list[str], captions: dict[str, str]) -> list[str]:
    missing = [stem for stem in stems if stem not in captions]
    if missing:
        raise InvalidCaptionError.mismatch(
            FIELD, got=f"no caption for {missing[0]!r}", expected="a .txt file for each image, or none"
        )
    return [captions[stem] for stem in stems]


def _is_clutter(entry: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(entry.filename).parts
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return entry.is_dir() or hidden or parts[-1].lower() in _CLUTTER


def _is_caption(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.lower().endswith(".txt")


def _stem(entry: zipfile.ZipInfo) -> str:
    return str(PurePosixPath(entry.filename).with_suffix(""))


def _refused(got: str, expected: str = "a ZIP file of images") -> InvalidInputError:
    return InvalidInputError.mismatch(FIELD, got=got, expected=expected)
