"""`/v1/files`: training files, stored for one day."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.auth import Caller, Reader, Writer
from api.facades.openai.errors import OpenAIRoute
from api.facades.stored_files import (
    MAX_BYTES,
    PURPOSE,
    StoredFile,
    delete_file,
    find_file,
    list_files,
    read_file,
    store_file,
)
from api.requests.form_reader import FormSchema
from api.requests.uploaded_files import Upload
from api.requests.uploads import receive_upload
from zoodip_core.errors import InvalidInputError

router = APIRouter(prefix="/v1/files", route_class=OpenAIRoute, include_in_schema=False)

_FORM = FormSchema(files="file", fields=frozenset({"purpose"}), max_files=1, max_file_bytes=MAX_BYTES)


@router.post("")
async def create(request: Request, caller: Writer) -> Response:
    """Store a training file: a ZIP file of images. One that is not valid is refused now, before it is unpacked."""
    async with receive_upload(request, caller, _FORM) as upload:
        return await caller.service.upload_slots.run(caller.owner, _store, caller, upload)


@router.get("")
def list_all(caller: Reader, purpose: str | None = None) -> dict[str, Any]:
    """Return the caller's files, newest first."""
    found = list_files(caller) if purpose in (None, PURPOSE) else []
    return {"object": "list", "data": [_described(file) for file in found], "has_more": False}


@router.get("/{id}")
def get(caller: Reader, id: str) -> dict[str, Any]:
    """Return the facts about a file."""
    return _described(find_file(caller, id))


@router.get("/{id}/content")
def content(caller: Reader, id: str) -> Response:
    """Return the content of a file."""
    return Response(read_file(caller, id), media_type="application/zip")


@router.delete("/{id}")
def delete(caller: Writer, id: str) -> dict[str, Any]:
    """Delete a file. Jobs that were created from it keep their images."""
    delete_file(caller, id)
    return {"id": id, "object": "file", "deleted": True}


def _store(caller: Caller, upload: Upload) -> Response:
    purpose = upload.fields.get("purpose")
    if purpose != PURPOSE:
        raise InvalidInputError.mismatch("purpose", got=repr(purpose), expected=repr(PURPOSE))
    return JSONResponse(_described(store_file(caller, upload, field="file")))


def _described(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at),
        "expires_at": int(file.expires_at),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
    }
