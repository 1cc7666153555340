"""Streaming parser of multipart bodies: writes files to disk and keeps fields in memory, each with a size limit."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from zoodip_core.errors import ImageTooLargeError, InvalidInputError, StorageError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES = 256_000
MAX_PARTS = 40  # more than any valid request has; limits bodies with many empty parts
_MAX_NAME_CHARACTERS = 100


@dataclass
class UploadedFile:
    """An uploaded file, on disk until the request ends."""

    part: str
    name: str
    content: IO[bytes]
    size_bytes: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def read(self) -> bytes:
        """Return the whole content."""
        self.content.seek(0)
        return self.content.read()


@dataclass
class Upload:
    """Parsed multipart body: fields and files with the names of their parts."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[UploadedFile] = field(default_factory=list)

    def files_of(self, part: str) -> list[UploadedFile]:
        """Return the files of the parts with this name."""
        return [file for file in self.files if file.part == part]

    def close(self) -> None:
        """Delete the temporary files."""
        for file in self.files:
            with suppress(OSError):  # closing flushes again, which fails on a full disk
                file.content.close()


@asynccontextmanager
async def read_upload(request: Request, *, max_file_bytes: int, max_files: int) -> AsyncIterator[Upload]:
    """Parse the body; delete its temporary files at the end of the block.

    Args:
        request: request with a multipart body.
        max_file_bytes: size limit of one file.
        max_files: limit of the number of files.

    Raises:
        HTTPException: 415 for another content type; 400 for a damaged or incomplete body.
        ImageTooLargeError: A file exceeds the limit; the rest of the body is not read.
        InvalidInputError: There are too many files or fields, or a field is too long.
        StorageError: The disk for temporary files is full.
    """
    kind, options = parse_options_header(request.headers.get("Content-Type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise HTTPException(415, "The body must be multipart/form-data.")
    reader = _Reader(max_file_bytes, max_files)
    try:
        parser = MultipartParser(options[b"boundary"], reader.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
        if not reader.is_complete:
            raise HTTPException(400, "The multipart body is incomplete.")
        yield reader.upload
    except FormParserError as error:
        raise HTTPException(400, "The multipart body is damaged.") from error
    except ClientDisconnect as error:  # nobody reads the response, but the log must not report a server error
        raise HTTPException(400, "The client disconnected.") from error
    finally:
        reader.upload.close()


class _Reader:
    """Collects parts from the callbacks of the parser."""

    def __init__(self, max_file_bytes: int, max_files: int) -> None:
        self.upload = Upload()
        self.is_complete = False
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._parts = 0
        self._header: list[bytes] = [b"", b""]
        self._disposition = b""
        self._file: UploadedFile | None = None
        self._field: tuple[str, bytearray] | None = None

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
        part = options[b"name"].decode("utf-8", "replace")[:_MAX_NAME_CHARACTERS]
        if b"filename" not in options:
            self._field = (part, bytearray())
            return
        if len(self.upload.files) >= self._max_files:
            raise InvalidInputError.mismatch(
                part, got=f"more than {self._max_files} files", expected=f"at most {self._max_files}"
            )
        name = options[b"filename"].decode("utf-8", "replace")[:_MAX_NAME_CHARACTERS]
        with _storage_errors():
            content = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the upload)
        self._file = UploadedFile(part, name or f"file {len(self.upload.files) + 1}", content)
        self.upload.files.append(self._file)

    def _on_data(self, data: bytes) -> None:
        if self._file is not None:
            self._file.size_bytes += len(data)
            if self._file.size_bytes > self._max_file_bytes:
                raise ImageTooLargeError.mismatch(
                    self._file.part,
                    got=f"{self._file.name!r} of more than {self._max_file_bytes:,} bytes",
                    expected=f"at most {self._max_file_bytes:,} bytes",
                )
            with _storage_errors():
                self._file.content.write(data)
            self._file.digest.update(data)
        elif self._field is not None:
            self._field[1].extend(data)
            if len(self._field[1]) > MAX_FIELD_BYTES:
                raise InvalidInputError.mismatch(
                    self._field[0],
                    got=f"more than {MAX_FIELD_BYTES:,} bytes",
                    expected=f"at most {MAX_FIELD_BYTES:,} bytes",
                )

    def _on_part_end(self) -> None:
        if self._field is not None:
            name, content = self._field
            self.upload.fields[name] = content.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self.is_complete = True
        with _storage_errors():
            for file in self.upload.files:
                file.content.flush()


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"The upload could not be written to disk: {error.strerror or error}.") from error
