"""Body of `POST /v1/images/generations`, and its translation to a native generation."""

from __future__ import annotations

import re
import secrets
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from api.auth import Caller
from api.facades.ignored_fields import ignored
from api.facades.image_size import fitted_size
from api.facades.model_names import find_model
from api.facades.native_request import native_request
from api.idempotent_create import Creation
from api.requests.bodies import GenerationRequest, RequestBody
from api.requests.generation import GenerationOptions, prepare_creation
from zoodip_core.input_warnings import InputWarning, WarningCode

OutputFormat = Literal["png", "jpeg", "webp"]

_SIZE = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,5})")
_HONORED: dict[str, tuple[object, ...]] = {  # values that describe what the service does in any case
    "quality": ("auto",),
    "background": ("auto", "opaque"),
    "moderation": ("auto", "low"),
    "style": (),
}
_MAX_SEED = 2**32


class ImageRequest(RequestBody):
    """Body of an image request. Null means the default, as in OpenAI's API."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    prompt: str = Field(min_length=1, max_length=2000)
    model: str | None = Field(default=None, max_length=100)
    n: int | None = Field(default=None, ge=1, le=10)
    size: str | None = Field(default=None, max_length=20)
    quality: str | None = None
    background: str | None = None
    moderation: str | None = None
    style: str | None = None
    output_format: OutputFormat | None = None
    output_compression: int | None = Field(default=None, ge=0, le=100)
    response_format: Literal["url", "b64_json"] | None = None
    stream: bool | None = None
    partial_images: int | None = Field(default=None, ge=0, le=3)
    user: str | None = Field(default=None, max_length=512)

    @property
    def format(self) -> OutputFormat:
        """File format of the images."""
        return self.output_format or "png"

    @property
    def partials(self) -> int:
        """Number of partial images of a stream."""
        return (self.partial_images or 0) if self.stream else 0

    @property
    def returns_urls(self) -> bool:
        """Whether the response has URLs; by default those of DALL·E do, and those of other models have base64."""
        if self.stream:
            return False
        by_model = "url" if (self.model or "").startswith("dall-e") else "b64_json"
        return (self.response_format or by_model) == "url"


def prepare_images(caller: Caller, body: ImageRequest, trace: str | None) -> Creation:
    """Validate an image request and return the creation of its generation.

    Raises:
        NotFoundError: There is no such model.
        ZoodipError: Another value is not allowed.
    """
    with caller.service.database.read() as connection:
        model = find_model(connection, caller, body.model)
    size, warnings = _size(caller, body, model.base_model)
    prompt = model.complete(body.prompt)
    if prompt != body.prompt:
        message = f"the prompt is drawn as {prompt!r}, because the model is {body.model}"
        warnings.append(InputWarning(WarningCode.VALUE_ADJUSTED, "prompt", message))
    n = body.n or 1
    native = native_request(
        GenerationRequest,
        prompt=prompt,
        n=n,
        size=size,
        seed=secrets.randbelow(_MAX_SEED - n),  # the same request draws other images each time
        base_model=model.base_model,
        metadata={"api": "openai"} | ({"user": body.user} if body.user else {}),
    )
    options = GenerationOptions((*warnings, *_ignored_fields(body)), body.partials)
    return prepare_creation(caller, native, trace, options)


def _size(caller: Caller, body: ImageRequest, base_model: str) -> tuple[str | None, list[InputWarning]]:
    if body.size in (None, "auto"):
        return None, []
    match = _SIZE.fullmatch(body.size or "")
    if match is None:
        return body.size, []  # the native request explains what is allowed
    return fitted_size(caller.service, base_model, int(match[1]), int(match[2]))


def _ignored_fields(body: ImageRequest) -> list[InputWarning]:
    """Return a warning for each field of the request that has no effect."""
    values: dict[str, Any] = {name: getattr(body, name) for name in _HONORED}
    names = [name for name, value in values.items() if value is not None and value not in _HONORED[name]]
    names += [name for name, value in (body.model_extra or {}).items() if value is not None]
    warnings = [ignored(name) for name in names]
    if body.output_compression is not None and body.format == "png":
        warnings.append(ignored("output_compression", "PNG files are lossless"))
    if body.returns_urls and body.format != "png":
        warnings.append(ignored("output_format", "URLs lead to PNG files"))
    if body.response_format == "url" and body.stream:
        warnings.append(ignored("response_format", "events of a stream have base64"))
    if body.partial_images and not body.stream:
        warnings.append(ignored("partial_images", "they are events of a stream"))
    return warnings
