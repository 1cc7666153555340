"""Files of a request, on disk until it ends. They share one temporary file, so a request needs one descriptor."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from zoodip_core.errors import StorageError
from zoodip_core.images.archive import SIGNATURE_BYTES, is_archive

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_NAME_CHARACTERS = 100
"""Characters of a file name that messages repeat."""


@dataclass
class UploadedFile:
    """A file that a client sent or named, on disk until the request ends."""

    name: str
    storage: IO[bytes]
    offset: int
    size_bytes: int = 0
    head: bytes = b""
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def is_archive(self) -> bool:
        """Whether it is a ZIP file."""
        return is_archive(self.head)

    def read(self) -> bytes:
        """Return the whole content."""
        return os.pread(self.storage.fileno(), self.size_bytes, self.offset)

    def open(self) -> io.BufferedReader:
        """Return the content as a file that can seek, so that memory holds only parts of it."""
        return io.BufferedReader(_Part(self.storage, self.offset, self.size_bytes))


@dataclass
class Upload:
    """Parsed multipart body: fields by name, files in order, and names of the parts with files that are ignored."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[UploadedFile] = field(default_factory=list)
    ignored_files: list[str] = field(default_factory=list)
    storage: IO[bytes] | None = None
    size_bytes: int = 0

    def begin_file(self, name: str) -> UploadedFile:
        """Return a new, empty file at the end of the temporary file.

        Raises:
            StorageError: The disk is full.
        """
        with _storage_errors():
            self.storage = self.storage or tempfile.TemporaryFile()  # noqa: SIM115 (closed with the upload)
        return UploadedFile(name, self.storage, self.size_bytes)

    def append(self, file: UploadedFile, data: bytes) -> None:
        """Add bytes to the file that was begun last.

        Raises:
            StorageError: The disk is full.
        """
        with _storage_errors():
            file.storage.write(data)
        if len(file.head) < SIGNATURE_BYTES:
            file.head = (file.head + data[:SIGNATURE_BYTES])[:SIGNATURE_BYTES]
        file.size_bytes += len(data)
        self.size_bytes += len(data)
        file.digest.update(data)

    def flush(self) -> None:
        """Write buffered bytes to disk, so that files can be read.

        Raises:
            StorageError: The disk is full.
        """
        with _storage_errors():
            if self.storage is not None:
                self.storage.flush()

    def close(self) -> None:
        """Delete the temporary file."""
        if self.storage is not None:
            with suppress(OSError):  # closing flushes again, which fails on a full disk
                self.storage.close()


class _Part(io.RawIOBase):
    """A part of a file. Reads do not move the position of the file, which other parts share."""

    def __init__(self, storage: IO[bytes], offset: int, size_bytes: int) -> None:
        super().__init__()
        self._storage = storage
        self._offset = offset
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "negative position")  # as files do: zipfile expects it
        self._position = start + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        size = max(0, min(memoryview(buffer).nbytes, self._size_bytes - self._position))
        data = os.pread(self._storage.fileno(), size, self._offset + self._position)
        memoryview(buffer)[: len(data)] = data
        self._position += len(data)
        return len(data)


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"The upload could not be written to disk: {error.strerror or error}.") from error
