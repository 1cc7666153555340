"""Multipart bodies, read while they stream: files to disk, fields to memory, each with a cap."""

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
MAX_PARTS = 40  # more than any request of ours has; a guard against many empty ones
_NAME_CHARACTERS = 100


@dataclass
class UploadedFile:
    """A file of the body, on disk until the request ends."""

    part: str
    name: str
    content: IO[bytes]
    size_bytes: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def read(self) -> bytes:
        """All its bytes."""
        self.content.seek(0)
        return self.content.read()


@dataclass
class Upload:
    """A multipart body: fields and files by the names of their parts."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[UploadedFile] = field(default_factory=list)

    def of_part(self, part: str) -> list[UploadedFile]:
        """The files of one part."""
        return [file for file in self.files if file.part == part]

    def close(self) -> None:
        """Delete the files."""
        for file in self.files:
            with suppress(OSError):  # what a full disk did not take is tried once more
                file.content.close()


@asynccontextmanager
async def read_upload(request: Request, *, max_file_bytes: int, max_files: int) -> AsyncIterator[Upload]:
    """The body's parts; their files are gone at the end.

    Raises:
        HTTPException: 415 for another content type, 400 for a damaged body or one that never ends.
        ImageTooLargeError: a file passes the cap; what follows is not read.
        InvalidInputError: too many files or fields, or a field that is too long.
        StorageError: the disk for temporary files is full.
    """
    kind, options = parse_options_header(request.headers.get("Content-Type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise HTTPException(415, "The body must be multipart/form-data")
    reader = _Reader(max_file_bytes, max_files)
    try:
        parser = MultipartParser(options[b"boundary"], reader.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
        if not reader.ended:
            raise HTTPException(400, "The multipart body ends too early")
        yield reader.upload
    except FormParserError as error:
        raise HTTPException(400, "The multipart body is damaged") from error
    except ClientDisconnect as error:  # nobody reads the answer; the log must not show a fault of ours
        raise HTTPException(400, "The client went away") from error
    finally:
        reader.upload.close()


class _Reader:
    """Collects the parts as the parser tells of them."""

    def __init__(self, max_file_bytes: int, max_files: int) -> None:
        self.upload = Upload()
        self.ended = False
        self._caps = max_file_bytes, max_files
        self._parts = 0
        self._header: list[bytes] = [b"", b""]
        self._disposition = b""
        self._file: UploadedFile | None = None
        self._field: tuple[str, bytearray] | None = None

    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls."""
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
            raise InvalidInputError(f"the body has more than {MAX_PARTS} parts")
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
            raise HTTPException(400, "A part of the multipart body has no name")
        part = options[b"name"].decode("utf-8", "replace")[:_NAME_CHARACTERS]
        if b"filename" not in options:
            self._field = (part, bytearray())
            return
        if len(self.upload.files) >= self._caps[1]:
            raise InvalidInputError(f"{part}: more than {self._caps[1]} files came", field=part)
        name = options[b"filename"].decode("utf-8", "replace")[:_NAME_CHARACTERS]
        with _disk():
            content = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the upload)
        self._file = UploadedFile(part, name or f"file {len(self.upload.files) + 1}", content)
        self.upload.files.append(self._file)

    def _on_data(self, data: bytes) -> None:
        if self._file is not None:
            self._file.size_bytes += len(data)
            if self._file.size_bytes > self._caps[0]:
                message = f"{self._file.part}: {self._file.name!r} has more than {self._caps[0]:,} bytes"
                raise ImageTooLargeError(message, field=self._file.part)
            with _disk():
                self._file.content.write(data)
            self._file.digest.update(data)
        elif self._field is not None:
            self._field[1].extend(data)
            if len(self._field[1]) > MAX_FIELD_BYTES:
                raise InvalidInputError(
                    f"{self._field[0]}: longer than {MAX_FIELD_BYTES} bytes", field=self._field[0]
                )

    def _on_part_end(self) -> None:
        if self._field is not None:
            name, content = self._field
            self.upload.fields[name] = content.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self.ended = True
        with _disk():
            for file in self.upload.files:
                file.content.flush()


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"the upload could not be kept: {error.strerror or error}") from error
