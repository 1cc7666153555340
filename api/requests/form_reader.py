"""Collects the parts of a multipart body from parser callbacks: files on disk, fields in memory, with limits."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException

from zoodip_core.errors import ImageTooLargeError, InvalidInputError, StorageError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES = 256_000  # all fields of a request together
MAX_PARTS = 40  # more than any valid request has; limits bodies with many empty parts
_MAX_NAME_CHARACTERS = 100
_LIST_SUFFIX = re.compile(r"\[\d*\]$")  # PHP and Rails name the items of a list `images[]` or `images[0]`


@dataclass(frozen=True, kw_only=True)
class FormSchema:
    """Parts that a route accepts. Other parts are ignored.

    Attributes:
        files: name of the part for files. `NAME[]` and `NAME[0]` mean the same part.
        fields: names of the fields. A field may have a file name and any content type.
        max_files: limit of the number of files.
        max_file_bytes: size limit of one file.
    """

    files: str
    fields: frozenset[str]
    max_files: int
    max_file_bytes: int


@dataclass
class UploadedFile:
    """An uploaded file, on disk until the request ends."""

    name: str
    storage: IO[bytes]
    offset: int
    size_bytes: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def read(self) -> bytes:
        """Return the whole content."""
        return os.pread(self.storage.fileno(), self.size_bytes, self.offset)


@dataclass
class Upload:
    """Parsed multipart body: fields by name, files in order, and names of the parts with files that are ignored.

    All files share one temporary file, so that a request needs one file descriptor for any number of files.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: list[UploadedFile] = field(default_factory=list)
    ignored_files: list[str] = field(default_factory=list)
    storage: IO[bytes] | None = None

    def close(self) -> None:
        """Delete the temporary file."""
        if self.storage is not None:
            with suppress(OSError):  # closing flushes again, which fails on a full disk
                self.storage.close()


class FormReader:
    """Fills an `Upload` from the callbacks of the multipart parser."""

    def __init__(self, schema: FormSchema) -> None:
        self.upload = Upload()
        self.is_complete = False
        self._schema = schema
        self._parts = 0
        self._header: list[bytes] = [b"", b""]
        self._disposition = b""
        self._file: UploadedFile | None = None
        self._has_file_name = False
        self._field: tuple[str, bytearray] | None = None
        self._field_bytes = 0
        self._file_bytes = 0
        self._ignored_bytes = 0

    def callbacks(self) -> MultipartCallbacks:
        """Return the callbacks for the parser."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": lambda data, start, end: self._on_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._on_header(1, data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": lambda data, start, end: self._on_data(data[start:end]),
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidInputError(f"body: got more than {MAX_PARTS} parts; expected at most {MAX_PARTS}")
        self._header, self._disposition, self._file, self._field = [b"", b""], b"", None, None

    def _on_header(self, which: int, data: bytes) -> None:
        self._header[which] += data

    def _on_header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = [b"", b""]

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise HTTPException(400, "A part of the multipart body has no name.")
        part = options[b"name"].decode("utf-8", "replace")
        self._has_file_name = b"filename" in options
        if _LIST_SUFFIX.sub("", part) == self._schema.files:
            self._begin_file(options.get(b"filename", b"").decode("utf-8", "replace"))
        elif part in self._schema.fields:
            if part in self.upload.fields:
                raise InvalidInputError.mismatch(part, got="this field twice", expected="it once")
            self._field = (part, bytearray())
        elif self._has_file_name:
            self.upload.ignored_files.append(part[:_MAX_NAME_CHARACTERS])

    def _begin_file(self, name: str) -> None:
        if len(self.upload.files) >= self._schema.max_files:
            raise InvalidInputError.mismatch(
                self._schema.files,
                got=f"more than {self._schema.max_files} files",
                expected=f"at most {self._schema.max_files}",
            )
        with _storage_errors():
            self.upload.storage = self.upload.storage or tempfile.TemporaryFile()  # noqa: SIM115 (closed with the upload)
        self._file = UploadedFile(name[:_MAX_NAME_CHARACTERS], self.upload.storage, self._file_bytes)
        self.upload.files.append(self._file)

    def _on_data(self, data: bytes) -> None:
        if self._file is not None:
            self._add_to_file(self._file, data)
        elif self._field is not None:
            self._field[1].extend(data)
            self._count_field_bytes(self._field[0], len(data))
        elif self._has_file_name:
            self._ignored_bytes += len(data)
            self._check_file_size("body", "ignored files", self._ignored_bytes)
        else:
            self._count_field_bytes("body", len(data))

    def _add_to_file(self, file: UploadedFile, data: bytes) -> None:
        file.size_bytes += len(data)
        self._check_file_size(self._schema.files, repr(file.name) if file.name else "a file", file.size_bytes)
        with _storage_errors():
            file.storage.write(data)
        self._file_bytes += len(data)
        file.digest.update(data)

    def _check_file_size(self, part: str, what: str, size_bytes: int) -> None:
        limit = self._schema.max_file_bytes
        if size_bytes > limit:
            raise ImageTooLargeError.mismatch(
                part, got=f"{what} of more than {limit:,} bytes", expected=f"at most {limit:,} bytes"
            )

    def _count_field_bytes(self, part: str, size_bytes: int) -> None:
        self._field_bytes += size_bytes
        if self._field_bytes > MAX_FIELD_BYTES:
            raise InvalidInputError.mismatch(
                part,
                got=f"fields of more than {MAX_FIELD_BYTES:,} bytes in total",
                expected=f"at most {MAX_FIELD_BYTES:,} bytes",
            )

    def _on_part_end(self) -> None:
        if self._field is not None:
            name, content = self._field
            try:
                self.upload.fields[name] = content.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise InvalidInputError.mismatch(
                    name, got="bytes that are not UTF-8", expected="text in UTF-8"
                ) from error
        elif self._file is not None and not self._file.name:
            if self._file.size_bytes == 0:  # a browser sends an empty file for an input without a choice
                self.upload.files.pop()
            self._file.name = f"file {len(self.upload.files)}"

    def _on_end(self) -> None:
        self.is_complete = True
        with _storage_errors():
            if self.upload.storage is not None:
                self.upload.storage.flush()


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"The upload could not be written to disk: {error.strerror or error}.") from error
