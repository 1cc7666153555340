"""What goes over the wire, with examples."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from zoodip_core.base_models.vocabulary import TOKEN_PATTERN
from zoodip_core.config import ConceptKind
from zoodip_core.service.jobs.states import Status

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
Caption = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Time = Annotated[str, Field(examples=["2026-03-01T12:00:00.000Z"])]


def is_storable(value: object) -> bool:
    """Whether it holds no NUL and no half of a surrogate pair: neither database stores them.

    Raises:
        RecursionError: it is nested too deep.
    """
    text = json.dumps(value, ensure_ascii=False, default=str)
    lone = not text.isprintable() and any("\ud800" <= c <= "\udfff" for c in text)
    return not lone and "\\u0000" not in text


class _Request(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, value: object) -> object:
        try:
            storable = is_storable(value)
        except RecursionError as error:
            raise ValueError("the values are nested too deep") from error
        if not storable:
            raise ValueError("text must not hold NUL or lone surrogates")
        return value


class PersonalizationRequest(_Request):
    """The `request` field of a personalization."""

    token: str = Field(
        max_length=100, examples=["<my-dog>"], json_schema_extra={"pattern": f"^{TOKEN_PATTERN.pattern}$"}
    )
    initializer: str = Field(max_length=100, examples=["dog"])
    kind: ConceptKind = "object"
    base_model: str | None = Field(default=None, examples=["emoji"])
    captions: Annotated[list[Caption], Field(max_length=16)] | None = None
    settings: dict[str, Any] = Field(default_factory=dict, examples=[{"steps": 2000, "stop": "auto"}])
    replace: bool = False
    metadata: Metadata = Field(default_factory=dict)
    webhook: str | None = Field(default=None, max_length=2000, examples=["https://example.org/zoodip"])


class GenerationRequest(_Request):
    """Images of a prompt that may hold tokens of the caller's concepts."""

    prompt: str = Field(min_length=1, max_length=2000, examples=["a photo of <my-dog> on a beach"])
    negative_prompt: str = Field(default="", max_length=2000)
    n: int = Field(default=1, ge=1, le=64)
    size: str | None = Field(default=None, max_length=20, examples=["512x512"])
    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    seed: int = Field(default=0, ge=0, lt=2**63)
    scheduler: str | None = Field(default=None, max_length=40, examples=["ddim"])
    base_model: str | None = None
    metadata: Metadata = Field(default_factory=dict)


class JobError(BaseModel):
    """Why a job failed."""

    code: str = Field(examples=["storage_failed"])
    message: str
    retryable: bool


class _Job(BaseModel):
    id: str
    status: Status
    base_model: str
    step: int = Field(description="0 until started; at rest the checkpoint's step")
    total_steps: int
    it_per_s: float | None
    eta_s: float | None
    queue_position: int | None = Field(description="Jobs of this kind that start earlier")
    error: JobError | None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    metadata: dict[str, str]


class Personalization(_Job):
    """A job that learns a concept."""

    object: Literal["personalization"] = "personalization"
    id: str = Field(examples=["per_06exs0fg3k5v8qhzj2m4n7rt"])
    token: str = Field(examples=["<my-dog>"])
    initializer: str
    kind: ConceptKind
    settings: dict[str, Any]
    fixed_loss: float | None = Field(description="The last loss on the fixed set")
    checkpoints: list[int]
    result: dict[str, Any] | None = Field(
        examples=[{"concept_id": "con_06exs0fg", "steps": 2000, "stopped_early": False}]
    )


class Validation(BaseModel):
    """What a personalization would run with; nothing was created."""

    object: Literal["personalization.validation"] = "personalization.validation"
    token: str
    base_model: str
    settings: dict[str, Any]
    images: int
    warnings: list[str]
    estimated_seconds: float | None = Field(description="From the speed of the workers that run now")
    estimated_memory_mb: float | None = Field(description="The base model's weights in memory")


class GeneratedImage(BaseModel):
    """One image of a generation."""

    url: str = Field(examples=["/v1/generations/gen_06exs0fg/images/0.png"])
    seed: int
    prompt: str


class Generation(_Job):
    """A job that draws images."""

    object: Literal["generation"] = "generation"
    id: str = Field(examples=["gen_06exs0fg3k5v8qhzj2m4n7rt"])
    prompt: str
    images: list[GeneratedImage]
    result: dict[str, Any] | None


class Concept(BaseModel):
    """A learned or imported token."""

    id: str = Field(examples=["con_06exs0fg3k5v8qhzj2m4n7rt"])
    object: Literal["concept"] = "concept"
    token: str = Field(examples=["<my-dog>"])
    kind: ConceptKind
    base_model: str
    fingerprint: str
    precision: str
    vectors: int
    created_at: Time
    from_personalization: str | None


class BaseModelInfo(BaseModel):
    """A base model of the catalogue."""

    id: str = Field(examples=["emoji"])
    object: Literal["base_model"] = "base_model"
    family: str | None
    precision: str
    default: bool
    side_px: int | None
    fingerprint: str | None


class PersonalizationList(BaseModel):
    """A page, newest first; the next one starts `after` the last id."""

    object: Literal["list"] = "list"
    data: list[Personalization]
    has_more: bool


class GenerationList(BaseModel):
    """A page, newest first; the next one starts `after` the last id."""

    object: Literal["list"] = "list"
    data: list[Generation]
    has_more: bool


class ConceptList(BaseModel):
    """A page, newest first; the next one starts `after` the last id."""

    object: Literal["list"] = "list"
    data: list[Concept]
    has_more: bool


class BaseModelList(BaseModel):
    """All base models."""

    object: Literal["list"] = "list"
    data: list[BaseModelInfo]
    has_more: bool = False


class Health(BaseModel):
    """Whether the service works."""

    status: Literal["ok", "unavailable"]
    workers: int | None = Field(default=None, description="Workers that look for work")
