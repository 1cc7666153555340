"""Import requests of concepts: validation against the base model, storage of the embedding, preparation of a row."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import PureWindowsPath

from sqlalchemy import Connection

from api import serializers
from api.auth import Caller
from api.base_models import BaseModelFacts
from api.idempotent_create import Creation, check_concept_quota
from api.requests.uploaded_files import UploadedFile
from api.usage_quotas import check_usage_quota
from zoodip_core.artifact import Concept, export_concept, read_concept_file
from zoodip_core.base_models.vocabulary import check_token
from zoodip_core.compatibility import check_compatible
from zoodip_core.errors import InvalidArtifactError, InvalidInputError, ModelMismatchError, StorageError
from zoodip_core.input_warnings import InputWarning, WarningCode
from zoodip_core.service import concepts, stored_objects
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.idempotency import StoredResponse
from zoodip_core.service.ids import new_id
from zoodip_core.service.object_store import concept_name
from zoodip_core.service.quotas import Estimate


def prepare_creation(caller: Caller, fields: dict[str, str], file: UploadedFile) -> Creation:
    """Validate an import and store its embedding; return the creation of its row.

    Args:
        caller: who imports the concept.
        fields: the form fields that are not empty.
        file: the safetensors file.

    Raises:
        ZoodipError: The request is not valid, or the object store failed.
    """
    replace, allow_mismatch = _flag(fields, "replace"), _flag(fields, "allow_model_mismatch")
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
    content = export_concept(concept, "diffusers")
    with caller.service.database.read() as connection:
        check_usage_quota(connection, caller, Estimate(stored_bytes=len(content)))
    caller.service.objects.put(concept_name(record.id), content)
    return _creation(caller, record, warnings, size=len(content), replace=replace)


def _flag(fields: dict[str, str], name: str) -> bool:
    value = fields.get(name, "false")
    if value not in ("true", "false"):
        raise InvalidInputError.mismatch(name, got=repr(value), expected="true or false")
    return value == "true"


def _creation(
    caller: Caller, record: ConceptRecord, warnings: list[InputWarning], *, size: int, replace: bool
) -> Creation:
    objects = caller.service.objects
    replaced: list[str] = []

    def insert_row(connection: Connection) -> StoredResponse:
        check_concept_quota(connection, caller, record.base_model, record.token)
        check_usage_quota(connection, caller, Estimate(stored_bytes=size))
        previous = concepts.add(connection, record, replace=replace)
        stored_objects.add(connection, caller.owner, caller.key_id, {concept_name(record.id): size})
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
        content = read_concept_file(file.read(), stem=stem)
        concept = content.concept(token)
        mismatch = check_compatible(
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
    warnings = [] if mismatch is None else [mismatch]
    if token is None and content.is_respelled:
        message = f"the file spells its token {content.header.token!r}; it is read as {concept.token}"
        warnings.append(InputWarning(WarningCode.SPELLING_CORRECTED, "file", message))
    return concept, warnings
