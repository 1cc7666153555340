"""Routes of concepts: list, export to other programs, import from them, and delete."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import PureWindowsPath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from api import schemas, serializers
from api.auth import Caller, Reader, Writer
from api.base_models import BaseModelFacts
from api.deletion import delete_concept
from api.idempotent_create import (
    Creation,
    IdempotencyKey,
    IdempotentCreate,
    check_concept_quota,
    hash_request,
)
from api.problems import problems
from api.requests.form_reader import FormSchema, Upload, UploadedFile
from api.requests.parameters import After, Id, Limit
from api.requests.uploads import read_upload
from zoodip_core.artifact import Concept, export_concept, file_name, load_concept, read_concept_file
from zoodip_core.base_models.vocabulary import check_token
from zoodip_core.compatibility import check_compatible
from zoodip_core.embedding_file import MAX_FILE_BYTES
from zoodip_core.errors import InvalidArtifactError, InvalidInputError, ModelMismatchError, StorageError
from zoodip_core.input_warnings import InputWarning
from zoodip_core.service import concepts
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.idempotency import StoredResponse
from zoodip_core.service.ids import new_id
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
    slots = caller.service.upload_slots
    slot = slots.open(caller.owner, is_only_owner=caller.key is None)
    async with slot, read_upload(request, _FORM) as upload:
        return await slots.run(caller.owner, _import, caller, upload, idempotency_key)


def _import(caller: Caller, upload: Upload, key: str | None) -> Response:
    if not upload.files:
        raise InvalidArtifactError.mismatch("file", got="no file", expected="one safetensors file")
    # A browser sends an empty text for an input without a value.
    fields = {name: value for name, value in upload.fields.items() if value}
    replace, allow_mismatch = _flag(fields, "replace"), _flag(fields, "allow_model_mismatch")
    creation = IdempotentCreate(
        caller,
        "POST /v1/concepts",
        key,
        hash_request(fields, [file.digest.hexdigest() for file in upload.files]),
    )
    file = upload.files[0]
    return creation.run(
        lambda: _prepare_creation(caller, fields, file, replace=replace, allow_mismatch=allow_mismatch)
    )


def _flag(fields: dict[str, str], name: str) -> bool:
    value = fields.get(name, "false")
    if value not in ("true", "false"):
        raise InvalidInputError.mismatch(name, got=repr(value), expected="true or false")
    return value == "true"


def _prepare_creation(
    caller: Caller, fields: dict[str, str], file: UploadedFile, *, replace: bool, allow_mismatch: bool
) -> Creation:
    entry, facts = caller.service.base_models.facts(fields.get("base_model"))
    if facts is None:
        raise InvalidInputError.mismatch(
            "base_model", got=repr(entry.name), expected="a base model whose files are on the API's machine"
        )
    concept, warnings = _read(file, fields.get("token"), facts, allow_mismatch=allow_mismatch)
    now = time.time()
    record = ConceptRecord(
        id=new_id("con", now),
        owner=caller.owner,
        token=concept.token,
        kind=concept.kind,
        base_model=entry.name,
        fingerprint=facts.fingerprint,
        precision=concept.provenance.precision if concept.provenance else "unknown",
        vectors=concept.vectors,
        created_at=now,
        from_personalization=None,
    )
    caller.service.objects.put(concept_name(record.id), export_concept(concept, "diffusers"))
    return _creation(caller, record, warnings, replace=replace)


def _creation(
    caller: Caller, record: ConceptRecord, warnings: list[InputWarning], *, replace: bool
) -> Creation:
    objects = caller.service.objects
    replaced: list[str] = []

    def insert_row(connection: Connection) -> StoredResponse:
        check_concept_quota(connection, caller, record.base_model, record.token)
        previous = concepts.add(connection, record, replace=replace)
        replaced.extend([] if previous is None else [previous.id])
        body = serializers.imported_concept(record, warnings).model_dump(mode="json")
        return StoredResponse(status_code=201, headers={"Location": f"/v1/concepts/{record.id}"}, body=body)

    def delete_replaced(_response: StoredResponse) -> None:
        # The daily orphan cleanup retries. The next purge deletes the data of the replaced concept's job.
        with suppress(StorageError):
            objects.delete(concept_name(concept_id) for concept_id in replaced)

    return Creation(
        insert_row=insert_row,
        row_exists=lambda connection: concepts.exists(connection, record.id),
        discard_objects=lambda: objects.delete([concept_name(record.id)]),
        after_commit=delete_replaced,
    )


def _read(
    file: UploadedFile, token: str | None, facts: BaseModelFacts, *, allow_mismatch: bool
) -> tuple[Concept, list[InputWarning]]:
    """Read the concept of a file and validate that it fits the base model; return it with warnings.

    The token is `token`, or else that in the file in its normal spelling, or else the name of a `.safetensors` file.

    Raises:
        InvalidArtifactError: The file is not a concept in safetensors form.
        ModelMismatchError: The concept was learned on another base model.
        InvalidTokenError: The token is missing or not allowed.
    """
    try:
        name = PureWindowsPath(file.name)  # splits at both kinds of slashes
        stem = name.stem if name.suffix.lower() == ".safetensors" else None
        concept = read_concept_file(file.read(), stem=stem).concept(token)
        warning = check_compatible(
            concept,
            facts.fingerprint,
            facts.widths,
            weights_fingerprint=facts.weights_fingerprint,
            allow_mismatch=allow_mismatch,
        )
    except (InvalidArtifactError, ModelMismatchError) as error:
        error.field = "file"  # name of the part in the body
        raise
    check_token(concept.token, facts.vocabulary)
    return concept, [] if warning is None else [warning]
