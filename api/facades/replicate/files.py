"""Files of Replicate's API: training files, which trainings name by URL."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api import serializers
from api.auth import Caller, Reader, Writer
from api.facades.replicate.common import PREFIX, base_url
from api.facades.stored_files import (
    MAX_BYTES,
    StoredFile,
    delete_file,
    find_file,
    list_files,
    store_file,
)
from api.requests.form_reader import FormSchema
from api.requests.uploaded_files import Upload
from api.requests.uploads import receive_upload

router = APIRouter(prefix=f"{PREFIX}/files", include_in_schema=False)

_FORM = FormSchema(files="content", fields=frozenset({"metadata"}), max_files=1, max_file_bytes=MAX_BYTES)


@router.post("")
async def create(request: Request, caller: Writer) -> Response:
    """Store a training file: a ZIP file of images. One that is not valid is refused before it is unpacked."""
    async with receive_upload(request, caller, _FORM) as upload:
        file = await caller.service.upload_slots.run(caller.owner, _store, caller, upload)
    return JSONResponse(_described(file, base_url(request, caller)), 201)


@router.get("")
def list_all(request: Request, caller: Reader) -> dict[str, Any]:
    """Return the caller's files, newest first."""
    url = base_url(request, caller)
    return {"results": [_described(file, url) for file in list_files(caller)], "next": None, "previous": None}


@router.get("/{id}")
def get(request: Request, caller: Reader, id: str) -> dict[str, Any]:
    """Return the facts about a file."""
    return _described(find_file(caller, id), base_url(request, caller))


@router.delete("/{id}")
def delete(caller: Writer, id: str) -> Response:
    """Delete a file."""
    delete_file(caller, id)
    return Response(status_code=204)


def _store(caller: Caller, upload: Upload) -> StoredFile:
    return store_file(caller, upload, field="content")


def _described(file: StoredFile, url: str) -> dict[str, Any]:
    return {
        "id": file.id,
        "name": file.name,
        "content_type": "application/zip",
        "size": file.size_bytes,
        "etag": file.id,
        "checksums": {},
        "metadata": {},
        "created_at": serializers.timestamp(file.created_at),
        "expires_at": serializers.timestamp(file.expires_at),
        "urls": {"get": f"{url}/files/{file.id}"},
    }
