"""Prompts of a generation request: one prompt or a prompt set, read with the caller's concepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from api.base_models import BaseModelFacts
from api.requests.bodies import GenerationRequest
from zoodip_core.config import GenerationSettings
from zoodip_core.errors import InvalidInputError, UnknownTokenError
from zoodip_core.generation_prompts import PreparedGeneration, prepare_prompts
from zoodip_core.input_warnings import InputWarning
from zoodip_core.prompt_sets import FilledPrompt, fill_prompts, prepare_set
from zoodip_core.prompt_tokens import candidate_tokens, normalized_token
from zoodip_core.service import concepts
from zoodip_core.service.concepts import ConceptRecord

_MAX_SUGGESTED = 1000  # newest concepts of an owner that an unknown token is compared with


@dataclass(frozen=True)
class RequestedPrompts:
    """The prompts of a request, filled with its concepts. A single prompt is not a set."""

    filled: Sequence[FilledPrompt]
    concepts: Sequence[str]
    is_set: bool


@dataclass(frozen=True)
class PreparedPrompts:
    """The prompts of a request as they are drawn.

    Attributes:
        generations: one for each prompt, in the order of the request.
        ids: token → concept id, for each concept in the prompts.
        warnings: about all prompts, each once.
    """

    generations: Sequence[PreparedGeneration]
    ids: Mapping[str, str]
    warnings: Sequence[InputWarning]


def requested_prompts(body: GenerationRequest) -> RequestedPrompts:
    """Return the prompts of a request.

    Raises:
        InvalidInputError: The request has neither `prompt` nor `prompts`, has both, or its set is not valid.
    """
    if body.prompts is None:
        if body.prompt is None:
            raise InvalidInputError.mismatch(
                "prompt", got="nothing", expected="a prompt, or a list in prompts"
            )
        if body.concepts:
            raise InvalidInputError.mismatch(
                "concepts", got=", ".join(body.concepts), expected="none without prompts"
            )
        return RequestedPrompts([FilledPrompt(body.prompt)], [], is_set=False)
    if body.prompt is not None:
        raise InvalidInputError.mismatch("prompts", got="both prompt and prompts", expected="one of them")
    tokens = [normalized_token(name.strip("<>")) or name for name in body.concepts]
    return RequestedPrompts(fill_prompts(body.prompts, tokens), tokens, is_set=True)


def read_prompts(
    connection: Connection,
    owner: str,
    base_model: str,
    facts: BaseModelFacts | None,
    settings: GenerationSettings,
    requested: RequestedPrompts,
) -> PreparedPrompts:
    """Read the prompts with the concepts that they can mean.

    Raises:
        UnknownTokenError: A token has no concept. The message names similar tokens of the owner.
        InvalidInputError: A prompt does not fit into the window of the base model.
    """
    texts = [*(one.text for one in requested.filled), settings.negative_prompt]
    wanted = set(requested.concepts).union(*(candidate_tokens(text) for text in texts))
    found = concepts.find_by_tokens(connection, owner, base_model, wanted) if wanted else {}
    expected = f"a token of your concepts on {base_model}"
    for k, token in enumerate(requested.concepts):
        if token not in found:
            raise UnknownTokenError.mismatch(f"concepts[{k}]", got=token, expected=expected)
    vectors = {token: record.vectors for token, record in found.items()}
    avoided = candidate_tokens(settings.negative_prompt)

    def meant_by(text: str) -> dict[str, int]:
        meant = candidate_tokens(text) | avoided
        return {token: count for token, count in vectors.items() if token in meant}

    try:
        prepared = _prepare(facts, settings, requested, meant_by, expected)
    except UnknownTokenError:
        page, _ = concepts.list_page(connection, owner, limit=_MAX_SUGGESTED)
        vectors |= {record.token: record.vectors for record in page if record.base_model == base_model}
        prepared = _prepare(facts, settings, requested, lambda _: vectors, expected)
    return PreparedPrompts(prepared, _ids(prepared, found), _unique(prepared))


def _prepare(
    facts: BaseModelFacts | None,
    settings: GenerationSettings,
    requested: RequestedPrompts,
    vectors_of: Callable[[str], Mapping[str, int]],
    expected: str,
) -> list[PreparedGeneration]:
    windows = None if facts is None else facts.text_windows
    if not requested.is_set:
        return [prepare_prompts(settings, vectors_of(settings.prompt), windows, expected=expected)]
    return prepare_set(settings, requested.filled, vectors_of, windows, expected=expected)


def _ids(prepared: Sequence[PreparedGeneration], found: Mapping[str, ConceptRecord]) -> dict[str, str]:
    return {token: found[token].id for one in prepared for token in one.tokens}


def _unique(prepared: Sequence[PreparedGeneration]) -> list[InputWarning]:
    return list(dict.fromkeys(warning for one in prepared for warning in one.warnings))
