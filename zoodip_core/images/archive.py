"""Reads a ZIP file of images with `.txt` captions next to them. Each entry is unpacked when it is read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO

from zoodip_core.errors import InvalidInputError
from zoodip_core.images.archive_entries import ImageEntry, read_entries
from zoodip_core.images.caption_files import caption_text
from zoodip_core.images.limits import FIELD, ImageLimits

SIGNATURE_BYTES = 4
_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")  # of the first entry, and of an archive without entries


def is_archive(head: bytes) -> bool:
    """Return whether a file is a ZIP file, from its first bytes."""
    return head[:SIGNATURE_BYTES] in _SIGNATURES


@dataclass(frozen=True)
class ImageArchive:
    """A ZIP file of images.

    Attributes:
        file: the file, which can seek. It stays open while images are read.
        name: name of the file in messages.
        limits: limits of each image.
        field: field in messages.
    """

    file: IO[bytes]
    name: str
    limits: ImageLimits
    field: str = FIELD

    def check(self) -> list[ImageEntry]:
        """Validate the list of entries and return those of the images. Nothing is unpacked.

        Raises:
            InvalidInputError: As `read_entries`.
        """
        return read_entries(self.file, self.limits, self._refused)

    def images(self) -> list[ArchivedImage]:
        """Return the images in the order of their names. Only their captions are unpacked.

        Raises:
            InvalidInputError: As `check`, or a caption is damaged.
        """
        entries = self.check()
        archive = zipfile.ZipFile(self.file)
        return [
            ArchivedImage(
                name=entry.image.filename.rpartition("/")[2],
                caption=None if entry.caption is None else caption_text(self._read(archive, entry.caption)),
                read=partial(self._read, archive, entry.image),
            )
            for entry in entries
        ]

    def _read(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
        try:
            with archive.open(entry) as file:
                return file.read(entry.file_size)  # with a size, zipfile never inflates more than that
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
            raise self._refused(f"the damaged entry {entry.filename!r}", "a ZIP file of images") from error

    def _refused(self, got: str, expected: str) -> InvalidInputError:
        return InvalidInputError.mismatch(self.field, got=f"{self.name!r} ({got})", expected=expected)


@dataclass(frozen=True)
class ArchivedImage:
    """An image of an archive.

    Attributes:
        name: file name, without folders.
        caption: first line with text of its `.txt` file; empty if there is no text, None without a file.
        read: unpacks the image; raises InvalidInputError if its data are damaged, or longer than declared.
    """

    name: str
    caption: str | None
    read: Callable[[], bytes]
