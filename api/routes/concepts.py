"""Concepts: listed, exported for other programs, imported from them, deleted."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection

from api import schemas, serializers
from api.auth import Caller, Reader, Writer
from api.base_models import BaseModelFacts
from api.deletion import delete_concept
from api.idempotent_create import Creation, IdempotencyKey, IdempotentCreate, check_names, hash_of
from api.problems import problems
from api.requests.parameters import After, Id, Limit
from api.requests.uploads import Upload, read_upload
from zoodip_core.artifact import Concept, check_compatible, export_concept, file_name, load_concept
from zoodip_core.base_models.vocabulary import check_token
from zoodip_core.embedding_file import MAX_FILE_BYTES
from zoodip_core.errors import InvalidArtifactError, InvalidInputError, ModelMismatchError, StorageError
from zoodip_core.service import concepts
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.idempotency import StoredResponse
from zoodip_core.service.ids import new_id
from zoodip_core.service.object_store import concept_name

router = APIRouter(prefix="/v1/concepts", tags=["concepts"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "safetensors"},
                        "token": {"type": "string", "description": "Needed where the file names none"},
                        "base_model": {"type": "string"},
                        "replace": {"type": "string", "enum": ["true", "false"]},
                    },
                }
            }
        },
    }
}


@router.get("", response_model=schemas.ConceptList, responses=problems())
def list_all(caller: Reader, after: After = None, limit: Limit = 20) -> Response:
    """The caller's concepts, newest first."""
    with caller.service.database.read() as connection:
        found, more = concepts.list_page(connection, caller.owner, after=after, limit=limit)
    return serializers.reply(
        schemas.ConceptList(data=[serializers.concept(record) for record in found], has_more=more)
    )


@router.get("/{id}", response_model=schemas.Concept, responses=problems(404))
def get(caller: Reader, id: Id) -> Response:
    """One concept."""
    with caller.service.database.read() as connection:
        return serializers.reply(serializers.concept(concepts.find(connection, id, caller.owner)))


@router.get(
    "/{id}/embedding",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "A safetensors file"},
        **problems(404),
    },
)
def embedding(
    caller: Reader,
    id: Id,
    form: Annotated[Literal["diffusers", "a1111", "comfyui"], Query(alias="format")] = "diffusers",
) -> Response:
    """The embedding as a safetensors file for diffusers, A1111 or ComfyUI."""
    with caller.service.database.read() as connection:
        record = concepts.find(connection, id, caller.owner)
    concept = load_concept(caller.service.objects.get(concept_name(record.id)), token=record.token)
    disposition = f'attachment; filename="{file_name(record.token)}"'
    return Response(
        export_concept(concept, form),
        media_type="application/octet-stream",
        headers={"Content-Disposition": disposition},
    )


@router.delete("/{id}", status_code=204, response_class=Response, responses=problems(404))
def delete(caller: Writer, id: Id) -> Response:
    """Purge the embedding, and the photos, previews and checkpoints that it came from."""
    delete_concept(caller, id)
    return Response(status_code=204)


@router.post(
    "",
    status_code=201,
    response_model=schemas.Concept,
    responses=problems(409, 413, 415),
    openapi_extra=_BODY,
)
async def import_file(request: Request, caller: Writer, idempotency_key: IdempotencyKey = None) -> Response:
    """Take in an embedding that was learned elsewhere."""
    async with read_upload(request, max_file_bytes=MAX_FILE_BYTES, max_files=1) as upload:
        return await run_in_threadpool(_import, caller, upload, idempotency_key)


def _import(caller: Caller, upload: Upload, key: str | None) -> Response:
    files = upload.of_part("file")
    if not files:
        raise InvalidArtifactError("file: no file came; allowed: one safetensors file", field="file")
    replace = upload.fields.get("replace", "false")
    if replace not in ("true", "false"):
        raise InvalidInputError(f"replace: {replace!r} came; allowed: true, false", field="replace")
    once = IdempotentCreate(
        caller,
        "POST /v1/concepts",
        key,
        hash_of(dict(upload.fields), [file.digest.hexdigest() for file in files]),
    )
    return once.run(lambda: _prepare_creation(caller, upload, files[0].read(), replace=replace == "true"))


def _prepare_creation(caller: Caller, upload: Upload, content: bytes, *, replace: bool) -> Creation:
    entry, facts = caller.service.base_models.facts(upload.fields.get("base_model"))
    if facts is None:
        raise InvalidInputError(f"base_model: {entry.name} has no files here yet", field="base_model")
    concept = _read(content, upload.fields.get("token"), facts)
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
    return _making(caller, record, replace=replace)


def _making(caller: Caller, record: ConceptRecord, *, replace: bool) -> Creation:
    objects = caller.service.objects
    replaced: list[str] = []

    def insert_row(connection: Connection) -> StoredResponse:
        check_names(connection, caller, record.base_model, record.token)
        previous = concepts.add(connection, record, replace=replace)
        replaced.extend([] if previous is None else [previous.id])
        body = serializers.concept(record).model_dump(mode="json")
        return StoredResponse(status_code=201, headers={"Location": f"/v1/concepts/{record.id}"}, body=body)

    def then(_answer: StoredResponse) -> None:
        # What stays is dropped by the daily look; what the job of it holds, by the next purge.
        with suppress(StorageError):
            objects.delete(concept_name(concept_id) for concept_id in replaced)

    return Creation(
        insert_row=insert_row,
        row_exists=lambda connection: concepts.exists(connection, record.id),
        discard_objects=lambda: objects.delete([concept_name(record.id)]),
        after_commit=then,
    )


def _read(content: bytes, token: str | None, facts: BaseModelFacts) -> Concept:
    """The file's concept, if the base model can draw it."""
    try:
        concept = load_concept(content, token=token)
        check_compatible(concept, facts.fingerprint, facts.widths)
    except (InvalidArtifactError, ModelMismatchError) as error:
        error.field = "file"  # the part of the body that holds it
        raise
    check_token(concept.token, facts.vocabulary)
    return concept
