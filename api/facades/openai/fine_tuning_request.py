"""Body of `POST /v1/fine_tuning/jobs`, and its translation to a native personalization."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from api.auth import Caller
from api.facades.ignored_fields import ignored
from api.facades.model_names import find_model
from api.facades.native_request import native_request
from api.requests.bodies import Metadata, PersonalizationRequest, RequestBody
from zoodip_core.errors import InvalidInitializerError, InvalidInputError, InvalidTokenError
from zoodip_core.input_warnings import InputWarning
from zoodip_core.prompt_tokens import token_of_file_name

TRAINING_FILE = "training_file"
"""Metadata of the personalization: id of the file that it was created from."""

_SUPERVISED = "supervised"
_AUTO = (None, "auto")


class FineTuningRequest(RequestBody):
    """Body of a fine-tuning job. Null means the default, as in OpenAI's API."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    model: str = Field(max_length=100)
    training_file: str = Field(max_length=100)
    suffix: str | None = Field(default=None, max_length=64)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    metadata: Metadata | None = None
    method: dict[str, Any] | None = None
    hyperparameters: dict[str, Any] | None = None


def personalization_request(caller: Caller, body: FineTuningRequest) -> PersonalizationRequest:
    """Return the request of the personalization.

    The metadata `token`, `initializer`, `kind` and `captions` (one line for each image) set the fields of their
    names. `suffix` is the name of the token without such metadata.

    Args:
        caller: who creates the job.
        body: the request.

    Raises:
        NotFoundError: There is no such model.
        ZoodipError, RequestValidationError: Another value is not allowed.
    """
    metadata = dict(body.metadata or {})
    if body.method is not None and body.method.get("type") != _SUPERVISED:
        raise InvalidInputError.mismatch(
            "method.type", got=repr(body.method.get("type")), expected=repr(_SUPERVISED)
        )
    token = metadata.pop("token", None) or _token_of(body.suffix)
    initializer = metadata.pop("initializer", None)
    if not initializer:
        raise InvalidInitializerError.mismatch(
            "metadata.initializer", got="nothing", expected="a word to start from, such as 'dog'"
        )
    lines = metadata.pop("captions", None)
    kind = metadata.pop("kind", "object")
    return native_request(
        PersonalizationRequest,
        token=token,
        initializer=initializer,
        kind=kind,
        base_model=_base_model(caller, body.model),
        captions=lines.splitlines() if lines else None,
        settings={} if body.seed is None else {"seed": body.seed},
        metadata=metadata | {"api": "openai", TRAINING_FILE: body.training_file},
    )


def ignored_fields(body: FineTuningRequest) -> tuple[InputWarning, ...]:
    """Return a warning for each field of the request that has no effect."""
    given = {
        "hyperparameters": body.hyperparameters or {},
        "method.supervised.hyperparameters": _object(_object(body.method, _SUPERVISED), "hyperparameters"),
    }
    names = [
        f"{group}.{name}"
        for group, values in given.items()
        for name, value in values.items()
        if value not in _AUTO
    ]
    names += [name for name, value in (body.model_extra or {}).items() if value not in (None, [])]
    return tuple(ignored(name) for name in names)


def _object(value: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """Return a member that should be an object; one of another type, or none, is empty."""
    member = (value or {}).get(name)
    return member if isinstance(member, dict) else {}


def _token_of(suffix: str | None) -> str:
    token = None if suffix is None else token_of_file_name(suffix)
    if token is None:
        raise InvalidTokenError.mismatch(
            "suffix", got=repr(suffix), expected="the name of the token to learn, such as 'my-dog'"
        )
    return token


def _base_model(caller: Caller, name: str) -> str:
    with caller.service.database.read() as connection:
        model = find_model(connection, caller, name)
    if model.concept is not None:
        raise InvalidInputError.mismatch("model", got=repr(name), expected="a base model")
    return model.base_model
