"""Model names in other APIs: a base model, a concept by token or id, or a name that clients have built in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import Connection

from api.auth import Caller
from zoodip_core.errors import UnknownBaseModelError
from zoodip_core.prompt_tokens import bracket_names, contains_token, normalized_token
from zoodip_core.service import concepts
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.ids import is_id

MAX_LISTED = 1000
"""Newest concepts of an owner that have a model name."""

_BUILT_IN = re.compile(r"(?:gpt-image|chatgpt-image|dall-e)-[\w.-]+")


@dataclass(frozen=True)
class ChosenModel:
    """A base model, and the concept to draw if the name is that of a concept."""

    base_model: str
    concept: ConceptRecord | None = None

    def complete(self, prompt: str) -> str:
        """Return the prompt with the token of the concept, which is added if the prompt does not name the concept."""
        if self.concept is None:
            return prompt
        named = bracket_names(prompt, [self.concept.token])
        if contains_token(named, self.concept.token):
            return named
        if self.concept.kind == "style":
            return f"{prompt}, in {self.concept.token} style"
        return f"{self.concept.token}, {prompt}"


def find_model(connection: Connection, caller: Caller, name: str | None) -> ChosenModel:
    """Return the model with this name. None and the names of OpenAI's models mean the default base model.

    A token that the owner has on several base models means the concept on the default one, or else the newest.

    Raises:
        NotFoundError: There is no such model, or it belongs to another owner.
    """
    catalog = caller.service.base_models.catalog
    try:
        return ChosenModel(catalog.get(None if name is None or _BUILT_IN.fullmatch(name) else name).name)
    except UnknownBaseModelError:
        pass
    concept = _find_concept(connection, caller, name or "")
    if concept is None:
        raise NotFoundError(f"The model {name!r} does not exist.", field="model")
    return ChosenModel(concept.base_model, concept)


def is_named_by_token(concept: ConceptRecord, found: list[ConceptRecord], default: str) -> bool:
    """Return whether the token of a concept names it, and no other concept of the same owner.

    Args:
        concept: the concept.
        found: concepts of its owner, newest first.
        default: name of the default base model.
    """
    same = [other for other in found if other.token == concept.token]
    return concept is next((other for other in same if other.base_model == default), same[0])


def _find_concept(connection: Connection, caller: Caller, name: str) -> ConceptRecord | None:
    if is_id(name):
        try:
            return concepts.find(connection, name, caller.owner)
        except NotFoundError:
            return None
    token = normalized_token(name)
    if token is None:
        return None
    default = caller.service.base_models.catalog.default.name
    preferred = concepts.find_by_token(connection, caller.owner, default, token)
    return preferred or concepts.find_newest_by_token(connection, caller.owner, token)
