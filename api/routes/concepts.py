"""Routes of concepts: list, export to other programs, import from them, and delete."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from api import schemas, serializers
from api.auth import Caller, Reader, Writer
from api.deletion import delete_concept
from api.idempotent_create import (
    IdempotencyKey,
    IdempotentCreate,
    hash_request,
)
from api.problems import problems
from api.requests.bodies import ConceptChange
from api.requests.concept_import import prepare_creation
from api.requests.concept_rename import rename_concept
from api.requests.form_reader import FormSchema
from api.requests.parameters import After, Id, Limit
from api.requests.uploaded_files import Upload
from api.requests.uploads import receive_upload
from zoodip_core.artifact import export_concept, file_name, load_concept
from zoodip_core.embedding_file import MAX_FILE_BYTES
from zoodip_core.errors import InvalidArtifactError
from zoodip_core.service import concepts
from zoodip_core.service.object_store import concept_name

router = APIRouter(prefix="/v1/concepts", tags=["concepts"])

_FORM = FormSchema(
    files="file",
    fields=frozenset({"token", "base_model", "replace", "allow_model_mismatch"}),
    max_files=1,
    max_file_bytes=MAX_FILE_BYTES,
)
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "safetensors file"},
                        "token": {
                            "type": "string",
                            "description": "Token of the concept; default: that in the file, or else the file's name",
                        },
                        "base_model": {
                            "type": "string",
                            "description": "Base model that the embedding was learned on",
                        },
                        "replace": {
                            "type": "string",
                            "enum": ["true", "false"],
                            "description": "Whether to replace a concept with the same token",
                        },
                        "allow_model_mismatch": {
                            "type": "string",
                            "enum": ["true", "false"],
                            "description": "Whether to accept a concept of another base model of the same width",
                        },
                    },
                }
            }
        },
    }
}


@router.get("", summary="List concepts", response_model=schemas.ConceptList, responses=problems())
def list_all(caller: Reader, after: After = None, limit: Limit = 20) -> Response:
    """Return the concepts of the caller, newest first."""
    with caller.service.database.read() as connection:
        found, more = concepts.list_page(connection, caller.owner, after=after, limit=limit)
    return serializers.reply(
        schemas.ConceptList(data=[serializers.concept(record) for record in found], has_more=more)
    )


@router.get("/{id}", summary="Get a concept", response_model=schemas.Concept, responses=problems(404))
def get(caller: Reader, id: Id) -> Response:
    """Return a concept."""
    with caller.service.database.read() as connection:
        return serializers.reply(serializers.concept(concepts.find(connection, id, caller.owner)))


@router.get(
    "/{id}/embedding",
    summary="Export a concept",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "safetensors file"},
        **problems(404),
    },
)
def embedding(
    caller: Reader,
    id: Id,
    form: Annotated[
        Literal["diffusers", "a1111", "comfyui"],
        Query(alias="format", description="Program to export the embedding for"),
    ] = "diffusers",
) -> Response:
    """Return the embedding as a safetensors file for diffusers, A1111 or ComfyUI."""
    with caller.service.database.read() as connection:
        record = concepts.find(connection, id, caller.owner)
    concept = load_concept(caller.service.objects.get(concept_name(record.id)), token=record.token)
    disposition = f'attachment; filename="{file_name(record.token)}"'
    return Response(
        export_concept(concept, form),
        media_type="application/octet-stream",
        headers={"Content-Disposition": disposition},
    )


@router.patch(
    "/{id}", summary="Rename a concept", response_model=schemas.Concept, responses=problems(404, 409, 413)
)
def rename(caller: Writer, id: Id, body: ConceptChange) -> Response:
    """Change the token. Prompts and exported files use the new one; queued generations keep the old one."""
    return serializers.reply(serializers.concept(rename_concept(caller, id, body.token)))


@router.delete(
    "/{id}",
    summary="Delete a concept",
    status_code=204,
    response_class=Response,
    responses=problems(404),
)
def delete(caller: Writer, id: Id) -> Response:
    """Delete a concept with the reference images, previews and checkpoints of the job that learned it."""
    delete_concept(caller, id)
    return Response(status_code=204)


@router.post(
    "",
    summary="Import a concept",
    status_code=201,
    response_model=schemas.ImportedConcept,
    responses=problems(408, 409, 413, 415),
    openapi_extra=_BODY,
)
async def import_file(request: Request, caller: Writer, idempotency_key: IdempotencyKey = None) -> Response:
    """Import a textual-inversion embedding from a safetensors file."""
    async with receive_upload(request, caller, _FORM) as upload:
        return await caller.service.upload_slots.run(caller.owner, _import, caller, upload, idempotency_key)


def _import(caller: Caller, upload: Upload, key: str | None) -> Response:
    if not upload.files:
        raise InvalidArtifactError.mismatch("file", got="no file", expected="one safetensors file")
    # A browser sends an empty text for an input without a value.
    fields = {name: value for name, value in upload.fields.items() if value}
    creation = IdempotentCreate(
        caller,
        "POST /v1/concepts",
        key,
        hash_request(fields, [file.digest.hexdigest() for file in upload.files]),
    )
    return creation.run(lambda: prepare_creation(caller, fields, upload.files[0]))
