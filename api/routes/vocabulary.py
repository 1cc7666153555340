"""`/v1/vocabulary`: how a base model splits a text, and words that start with it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api import schemas, serializers
from api.auth import Reader
from api.problems import problems
from zoodip_core.base_models.vocabulary import WORD_END

router = APIRouter(tags=["service"])


@router.get(
    "/v1/vocabulary",
    summary="Look up words of a base model",
    response_model=schemas.VocabularyMatch,
    responses=problems(),
)
def vocabulary(
    caller: Reader,
    text: Annotated[str, Query(min_length=1, max_length=100, description="A word or its beginning")],
    base_model: Annotated[
        str | None,
        Query(max_length=100, description="Name in the catalog; the default base model without it"),
    ] = None,
    limit: Annotated[int, Query(ge=0, le=50, description="Maximum number of suggestions")] = 8,
) -> Response:
    """Return how the text splits into tokens, and the most frequent words that start with it."""
    entry, facts = caller.service.base_models.facts(base_model)
    words = None if facts is None else facts.vocabulary
    body = schemas.VocabularyMatch(
        base_model=entry.name,
        text=text,
        pieces=None if words is None else [piece.removesuffix(WORD_END) for piece in words.split(text)],
        is_initializer=None if words is None else words.token_ids(text) is not None,
        suggestions=[] if words is None else words.words_with_prefix(text.strip(), limit),
    )
    return serializers.reply(body)
