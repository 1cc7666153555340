"""Schemas of request bodies, with examples."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from zoodip_core.base_models.vocabulary import TOKEN_PATTERN
from zoodip_core.config import ConceptKind, LongPrompts, PromptSyntax
from zoodip_core.images import MAX_IMAGES, Crop
from zoodip_core.prompt_sets import MAX_PROMPTS
from zoodip_core.surrogates import has_surrogate

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[
    dict[MetadataKey, MetadataValue], Field(max_length=16, description="Labels of the client, for filters")
]
MAX_CAPTION_CHARACTERS = 500
Caption = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CAPTION_CHARACTERS)]


class CropSquare(BaseModel):
    """A square of an image, in pixels of the upright image at its full size."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    x: int = Field(ge=0, description="Left edge in pixels")
    y: int = Field(ge=0, description="Top edge in pixels")
    side: int = Field(ge=1, description="Side in pixels")

    def crop(self) -> Crop:
        """Return the crop for the decoder."""
        return Crop(self.x, self.y, self.side)


Crops = Annotated[
    Annotated[list[CropSquare | None], Field(max_length=MAX_IMAGES)] | None,
    Field(
        description="Square to use of each image; null leaves an image, or all of them, to `image_fit`",
        examples=[[{"x": 0, "y": 8, "side": 48}, None]],
    ),
]
ImageUrls = Annotated[
    list[Annotated[str, StringConstraints(max_length=2000)]],
    Field(
        max_length=MAX_IMAGES,
        description="URLs of reference images, which come after those of the part `images`; "
        "the operator decides whether the service downloads images",
        examples=[["https://example.org/dog-1.jpg"]],
    ),
]
SetPrompt = Annotated[str, StringConstraints(max_length=2000)]
ConceptToken = Annotated[str, StringConstraints(min_length=1, max_length=100)]

NOT_STORABLE = "text with a NUL character or an unpaired surrogate"
STORABLE = "text without them"


def is_storable(value: object) -> bool:
    """Return whether the databases can store a JSON value: it contains no NUL and no unpaired surrogate.

    Raises:
        RecursionError: The value is nested too deeply.
    """
    text = json.dumps(value, ensure_ascii=False, default=str)
    return not has_surrogate(text) and "\\u0000" not in text


class RequestBody(BaseModel):
    """Base of bodies that the databases can store."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _check_storable(cls, value: object) -> object:
        """Validate that the databases can store the body."""
        try:
            storable = is_storable(value)
        except RecursionError as error:
            raise ValueError("got values that are nested too deeply; expected fewer levels") from error
        if not storable:
            raise ValueError(f"got {NOT_STORABLE}; expected {STORABLE}")
        return value


class PersonalizationRequest(RequestBody):
    """The `request` field of a new personalization."""

    token: str = Field(
        max_length=100,
        description="Placeholder word to learn",
        examples=["<my-dog>"],
        json_schema_extra={"pattern": f"^{TOKEN_PATTERN.pattern}$"},
    )
    initializer: str = Field(
        max_length=100,
        description="Word whose embedding the search starts from, or one word for each vector. One vector starts "
        "from the mean of several words",
        examples=["dog"],
    )
    kind: ConceptKind = Field(default="object", description="Whether to learn an object or a style")
    base_model: str | None = Field(
        default=None, description="Name in the catalog; null selects the default", examples=["emoji"]
    )
    captions: Annotated[list[Caption], Field(max_length=MAX_IMAGES)] | None = Field(
        default=None,
        description="One sentence with the token for each image, instead of the `.txt` files in a ZIP file; null "
        "selects those, or else templates",
    )
    image_urls: ImageUrls = Field(default_factory=list)
    crop: Crops = None
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="A `preset` and settings that differ from it",
        examples=[{"steps": 2000, "stop": "auto"}],
    )
    replace: bool = Field(default=False, description="Whether to replace a concept with the same token")
    metadata: Metadata = Field(default_factory=dict)
    webhook: str | None = Field(
        default=None,
        max_length=2000,
        description="https URL to notify when the job ends",
        examples=["https://example.org/zoodip"],
    )


class InspectionRequest(RequestBody):
    """The `request` field of an inspection."""

    image_urls: ImageUrls = Field(default_factory=list)
    crop: Crops = None


class ConceptChange(RequestBody):
    """Body of a change of a concept."""

    token: str = Field(
        max_length=100,
        description="New token of the concept",
        examples=["<rex>"],
        json_schema_extra={"pattern": f"^{TOKEN_PATTERN.pattern}$"},
    )


class GenerationRequest(RequestBody):
    """Body of a new generation."""

    prompt: str | None = Field(
        default=None,
        min_length=1,
        max_length=2000,
        description="Text to draw; may contain tokens of the caller's concepts",
        examples=["a photo of <my-dog> on a beach"],
    )
    prompts: list[SetPrompt] | None = Field(
        default=None,
        description=f"Instead of `prompt`: 1 to {MAX_PROMPTS} prompts, each with `n` images of the same seeds. "
        "`{token}` becomes each concept of `concepts`",
        examples=[["a {token} on a beach", "a {token} in the snow"]],
    )
    concepts: list[ConceptToken] = Field(
        default_factory=list,
        max_length=MAX_PROMPTS,
        description="Tokens of the caller's concepts, for `{token}` in `prompts`",
        examples=[["<my-dog>", "<my-cat>"]],
    )
    negative_prompt: str = Field(default="", max_length=2000, description="Text to steer away from")
    prompt_syntax: PromptSyntax = Field(
        default="plain",
        description="Syntax of both prompts: plain text, or `(word:1.2)`, `(word)` and `[word]` for weights",
    )
    long_prompts: LongPrompts = Field(
        default="chunks",
        description="Prompts beyond the text window: encoded in chunks, or truncated with a warning",
    )
    n: int = Field(default=1, ge=1, le=64, description="Number of images of each prompt")
    size: str | None = Field(
        default=None,
        max_length=20,
        description="Width and height in pixels, in multiples of the base model's latent cell, 8 px for Stable "
        "Diffusion; null selects the size of the base model",
        examples=["64x64"],
    )
    steps: int | None = Field(default=None, ge=1, le=1000, description="Denoising steps")
    guidance_scale: float | None = Field(
        default=None, ge=0, le=100, description="Guidance scale; 1 turns guidance off"
    )
    guidance_rescale: float = Field(
        default=0,
        ge=0,
        le=1,
        description="Share of the correction for overexposed guided images; 0 turns it off",
    )
    seed: int = Field(
        default=0, ge=0, lt=2**63, description="Seed of the first image; image k has the seed `seed + k`"
    )
    scheduler: str | None = Field(
        default=None,
        max_length=40,
        description="Scheduler; null selects that of the base model",
        examples=["ddim"],
    )
    base_model: str | None = Field(default=None, description="Name in the catalog; null selects the default")
    metadata: Metadata = Field(default_factory=dict)
