"""Collects the parts of a multipart body from parser callbacks: files on disk, fields in memory, with limits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException

from api.requests.uploaded_files import MAX_NAME_CHARACTERS, Upload, UploadedFile
from zoodip_core.errors import ImageTooLargeError, InvalidInputError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES = 256_000  # all fields of a request together
MAX_PARTS = 40  # more than any valid request has; limits bodies with many empty parts
_LIST_SUFFIX = re.compile(r"\[\d*\]$")  # PHP and Rails name the items of a list `images[]` or `images[0]`


@dataclass(frozen=True, kw_only=True)
class FormSchema:
    """Parts that a route accepts. Other parts are ignored.

    Attributes:
        files: name of the part for files. `NAME[]` and `NAME[0]` mean the same part.
        fields: names of the fields. A field may have a file name and any content type.
        max_files: limit of the number of files.
        max_file_bytes: size limit of one file. A ZIP file may have the size of all files together.
    """

    files: str
    fields: frozenset[str]
    max_files: int
    max_file_bytes: int

    @property
    def max_total_bytes(self) -> int:
        """Size limit of all files together."""
        return self.max_files * self.max_file_bytes


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
            self.upload.ignored_files.append(part[:MAX_NAME_CHARACTERS])

    def _begin_file(self, name: str) -> None:
        if len(self.upload.files) >= self._schema.max_files:
            raise InvalidInputError.mismatch(
                self._schema.files,
                got=f"more than {self._schema.max_files} files",
                expected=f"at most {self._schema.max_files}",
            )
        self._file = self.upload.begin_file(name[:MAX_NAME_CHARACTERS])
        self.upload.files.append(self._file)

    def _on_data(self, data: bytes) -> None:
        if self._file is not None:
            self._add_to_file(self._file, data)
        elif self._field is not None:
            self._field[1].extend(data)
            self._count_field_bytes(self._field[0], len(data))
        elif self._has_file_name:
            self._ignored_bytes += len(data)
            self._check_size("ignored files", self._ignored_bytes, self._schema.max_file_bytes, "body")
        else:
            self._count_field_bytes("body", len(data))

    def _add_to_file(self, file: UploadedFile, data: bytes) -> None:
        self.upload.append(file, data)
        limit = self._schema.max_total_bytes if file.is_archive else self._schema.max_file_bytes
        self._check_size(repr(file.name) if file.name else "a file", file.size_bytes, limit)
        self._check_size("files", self.upload.size_bytes, self._schema.max_total_bytes)

    def _check_size(self, what: str, size_bytes: int, limit: int, part: str | None = None) -> None:
        if size_bytes > limit:
            raise ImageTooLargeError.mismatch(
                part or self._schema.files,
                got=f"{what} of more than {limit:,} bytes",
                expected=f"at most {limit:,} bytes",
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
        self.upload.flush()
