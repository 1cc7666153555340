"""Streaming parser of multipart bodies: writes files to disk and keeps fields in memory, each with a size limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.auth import Caller
from api.requests.form_reader import FormReader, FormSchema
from api.requests.uploaded_files import Upload

_MAX_EPILOGUE_BYTES = 64_000  # RFC 2046 permits bytes after the final boundary; they have no meaning


@asynccontextmanager
async def receive_upload(request: Request, caller: Caller, schema: FormSchema) -> AsyncIterator[Upload]:
    """Hold an upload slot of the caller while the block runs, and parse the body as `read_upload` does.

    Raises:
        UploadsBusyError: All slots that the caller can use are taken.
        ZoodipError, HTTPException: As `read_upload`.
    """
    slot = caller.service.upload_slots.open(caller.owner, is_only_owner=caller.key is None)
    async with slot, read_upload(request, schema) as upload:
        yield upload


@asynccontextmanager
async def read_upload(request: Request, schema: FormSchema) -> AsyncIterator[Upload]:
    """Parse the body; delete its temporary file at the end of the block.

    Args:
        request: request with a multipart body.
        schema: the parts that the route accepts, and their limits.

    Raises:
        HTTPException: 415 for another content type; 400 for a damaged or incomplete body, or one that goes on
            after its final boundary.
        ImageTooLargeError: A file exceeds the limit; the rest of the body is not read.
        InvalidInputError: There are too many files or fields, a field is repeated, or the fields are too long.
        StorageError: The disk for temporary files is full.
    """
    kind, options = parse_options_header(request.headers.get("Content-Type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        got = request.headers.get("Content-Type") or "nothing"
        raise HTTPException(
            415, f"Content-Type: got {got[:100]}; expected multipart/form-data with a boundary"
        )
    reader = FormReader(schema)
    try:
        await _parse(request, MultipartParser(options[b"boundary"], reader.callbacks()), reader)
        yield reader.upload
    except FormParserError as error:
        raise HTTPException(400, "The multipart body is damaged.") from error
    except ClientDisconnect as error:  # nobody reads the response, but the log must not report a server error
        raise HTTPException(400, "The client disconnected.") from error
    finally:
        reader.upload.close()


async def _parse(request: Request, parser: MultipartParser, reader: FormReader) -> None:
    epilogue_bytes = 0
    async for chunk in request.stream():
        if not reader.is_complete:
            parser.write(chunk)
            continue
        epilogue_bytes += len(chunk)
        if epilogue_bytes > _MAX_EPILOGUE_BYTES:
            raise HTTPException(400, "The multipart body continues after its final boundary.")
    if not reader.is_complete:
        raise HTTPException(400, "The multipart body is incomplete.")
