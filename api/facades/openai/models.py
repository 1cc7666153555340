"""`/v1/models`: the base models and the caller's concepts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api.auth import Caller, Reader
from api.facades.model_names import MAX_LISTED, find_model, is_named_by_token
from api.facades.openai.errors import OpenAIRoute
from zoodip_core.service import concepts
from zoodip_core.service.concepts import ConceptRecord

router = APIRouter(prefix="/v1/models", route_class=OpenAIRoute, include_in_schema=False)


@router.get("")
def list_all(caller: Reader) -> dict[str, Any]:
    """Return the base models, and the caller's newest concepts by token, or by id where the token is ambiguous."""
    with caller.service.database.read() as connection:
        found, _ = concepts.list_page(connection, caller.owner, limit=MAX_LISTED)
    catalog = caller.service.base_models.catalog
    data = [_base_model(entry.name) for entry in catalog.entries]
    for concept in found:
        by_token = is_named_by_token(concept, found, catalog.default.name)
        data.append(_concept(concept.token if by_token else concept.id, concept))
    return {"object": "list", "data": data}


@router.get("/{name}")
def get(caller: Reader, name: str) -> dict[str, Any]:
    """Return one model under the requested name."""
    return _described(caller, name)


def _described(caller: Caller, name: str) -> dict[str, Any]:
    with caller.service.database.read() as connection:
        model = find_model(connection, caller, name)
    return _base_model(name) if model.concept is None else _concept(name, model.concept)


def _base_model(name: str) -> dict[str, Any]:
    # The catalog does not record when a base model was added.
    return {"id": name, "object": "model", "created": 0, "owned_by": "zoodip"}


def _concept(name: str, concept: ConceptRecord) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(concept.created_at),
        "owned_by": concept.owner,
        "concept_id": concept.id,
        "token": concept.token,
        "base_model": concept.base_model,
    }
