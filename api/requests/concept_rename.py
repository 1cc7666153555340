"""Renaming of concepts: validation of the new token against the base model."""

from __future__ import annotations

from contextlib import suppress

from api.auth import Caller
from zoodip_core.base_models.vocabulary import check_token, check_token_format
from zoodip_core.errors import UnknownBaseModelError
from zoodip_core.service import concepts
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.database import acquire_creation_lock


def rename_concept(caller: Caller, concept_id: str, token: str) -> ConceptRecord:
    """Change the token of a concept of the caller; return the changed concept.

    The token is checked against the vocabulary of the base model only if the API has its files.

    Raises:
        NotFoundError: The caller has no such concept.
        InvalidTokenError: The token is malformed, or a word of the base model.
        TokenTakenError: The token is in use.
    """
    check_token_format(token)
    with caller.service.database.read() as connection:
        record = concepts.find(connection, concept_id, caller.owner)
    with suppress(UnknownBaseModelError):  # the operator has removed the base model from the catalog
        _, facts = caller.service.base_models.facts(record.base_model)
        if facts is not None:
            check_token(token, facts.vocabulary)
    with caller.service.database.write() as connection:
        acquire_creation_lock(connection)
        return concepts.rename(connection, concepts.find(connection, concept_id, caller.owner), token)
