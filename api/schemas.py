"""Schemas of response bodies, with examples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from api.requests.bodies import CropSquare
from zoodip_core.base_models.safety_checker import SafetyCheckerState
from zoodip_core.config import ConceptKind
from zoodip_core.input_warnings import WarningCode
from zoodip_core.service.jobs.states import Status

Timestamp = Annotated[str, Field(examples=["2026-03-01T12:00:00.000Z"])]


class JobError(BaseModel):
    """Error of a failed job."""

    code: str = Field(description="Stable code for programs", examples=["storage_failed"])
    message: str = Field(description="Message for people")
    retryable: bool = Field(description="Whether the same job can succeed later")


class InputWarning(BaseModel):
    """A warning about input that was accepted."""

    code: WarningCode = Field(description="Stable code for programs", examples=["image_cropped"])
    field: str = Field(description="Input field that it is about", examples=["images"])
    message: str = Field(description="Message for people")


class _Job(BaseModel):
    id: str
    status: Status = Field(description="State of the job")
    base_model: str = Field(description="Name of the base model in the catalog")
    step: int = Field(description="Last completed step; that of the checkpoint while the job is not running")
    total_steps: int = Field(description="Steps of the whole job")
    it_per_s: float | None = Field(description="Speed in steps per second")
    eta_s: float | None = Field(description="Estimated seconds until the job ends")
    queue_position: int | None = Field(description="Number of queued jobs of this kind that start earlier")
    error: JobError | None = Field(description="Error of a failed job")
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    metadata: dict[str, str] = Field(description="Labels of the client")
    warnings: list[InputWarning] = Field(description="Warnings about the request; empty if there are none")


class Personalization(_Job):
    """A job that learns a concept."""

    object: Literal["personalization"] = "personalization"
    id: str = Field(examples=["per_06exs0fg3k5v8qhzj2m4n7rt"])
    token: str = Field(examples=["<my-dog>"])
    initializer: str = Field(description="Vocabulary word whose embedding the search starts from")
    kind: ConceptKind
    settings: dict[str, Any] = Field(description="All settings, with defaults resolved")
    fixed_loss: float | None = Field(description="Last validation loss")
    checkpoints: list[int] = Field(description="Steps of the saved checkpoints")
    result: dict[str, Any] | None = Field(
        description="Learned concept; null until the job succeeds",
        examples=[
            {
                "concept_id": "con_06exs0fg",
                "steps": 2000,
                "stopped_early": False,
                "usage": {"evaluations": 6426, "seconds": 97.2, "images": 0},
            }
        ],
    )


class EstimatedUsage(BaseModel):
    """Estimate of what a job counts against the quotas of usage."""

    evaluations: int = Field(description="U-Net evaluations, with measurements and previews")
    seconds: float | None = Field(description="Engine time at the speed of the fastest running worker")
    images: int = Field(description="Generated images")


class Validation(BaseModel):
    """Settings and estimated cost of a personalization that was validated, not created."""

    object: Literal["personalization.validation"] = "personalization.validation"
    token: str
    base_model: str = Field(description="Name of the base model in the catalog")
    settings: dict[str, Any] = Field(description="All settings, with defaults resolved")
    images: int = Field(description="Number of reference images")
    warnings: list[InputWarning] = Field(description="Warnings about the request, such as small images")
    evaluations: int = Field(description="U-Net evaluations, without measurements of the validation loss")
    queue_position: int = Field(description="Number of queued personalizations that would start earlier")
    estimated_seconds: float | None = Field(description="Time at the speed of the fastest running worker")
    estimated_memory_mb: float | None = Field(
        description="Memory of the base model's weights at its precision; "
        "a worker on a CPU can keep those of a small model dequantized"
    )
    estimated_usage: EstimatedUsage


class InspectedImage(BaseModel):
    """Size, format and warnings of an uploaded image."""

    width: int = Field(description="Width of the upright image in pixels")
    height: int = Field(description="Height of the upright image in pixels")
    format: str = Field(description="PNG, JPEG, WebP, AVIF, HEIC or HEIF", examples=["JPEG"])
    crop: CropSquare = Field(description="The chosen square, or the one that `image_fit: crop` uses")
    warnings: list[InputWarning] = Field(
        description="Warnings about the image; the later one of two duplicates has the warning about both"
    )


class Inspection(BaseModel):
    """Inspected images, with the warnings that a personalization would return. Nothing is stored."""

    object: Literal["inspection"] = "inspection"
    images: list[InspectedImage] = Field(description="The images in the order of the request")


class GeneratedImage(BaseModel):
    """One image of a generation."""

    url: str = Field(examples=["/v1/generations/gen_06exs0fg/images/0.png"])
    seed: int = Field(description="Seed of this image")
    prompt: str


class WithheldImage(BaseModel):
    """An image that the safety checker of the base model withheld."""

    seed: int = Field(description="Seed of this image")
    error: JobError = Field(description="Always `content_filtered`")


class PromptGroup(BaseModel):
    """One prompt of a prompt set for one concept, with its images."""

    template: str = Field(description="The prompt of the request", examples=["a {token} on a beach"])
    concept: str | None = Field(
        description="Token that replaces `{token}`; null if the prompt does not contain it",
        examples=["<my-dog>"],
    )
    prompt: str = Field(description="The prompt as it is drawn", examples=["a <my-dog> on a beach"])
    images: list[GeneratedImage] = Field(description="Its images; empty until the job succeeds")


class GenerationValidation(BaseModel):
    """Settings and estimated usage of a generation that was validated, not created."""

    object: Literal["generation.validation"] = "generation.validation"
    base_model: str = Field(description="Name of the base model in the catalog")
    settings: dict[str, Any] = Field(description="All settings of the first prompt, with defaults resolved")
    prompts: list[str] = Field(description="All prompts as they are drawn")
    warnings: list[InputWarning] = Field(description="Warnings about the prompts")
    estimated_usage: EstimatedUsage


class Generation(_Job):
    """A job that draws images of a prompt or a prompt set."""

    object: Literal["generation"] = "generation"
    id: str = Field(examples=["gen_06exs0fg3k5v8qhzj2m4n7rt"])
    prompt: str = Field(description="The prompt; of a prompt set the first one")
    settings: dict[str, Any] = Field(description="All settings, with defaults resolved")
    images: list[GeneratedImage] = Field(description="Drawn images; empty until the job succeeds")
    groups: list[PromptGroup] | None = Field(
        description="The images of a prompt set by prompt and concept; null for a single prompt"
    )
    withheld: list[WithheldImage] = Field(
        description="Images that the safety checker withheld; if it withheld all, the job fails"
    )
    result: dict[str, Any] | None = Field(
        description="Seeds of the images, and `usage` of all attempts; null until the job succeeds"
    )


class Concept(BaseModel):
    """A learned or imported token with its embedding."""

    id: str = Field(examples=["con_06exs0fg3k5v8qhzj2m4n7rt"])
    object: Literal["concept"] = "concept"
    token: str = Field(examples=["<my-dog>"])
    kind: ConceptKind
    base_model: str = Field(description="Name of the base model in the catalog")
    fingerprint: str = Field(description="SHA-256 of the base model's weights")
    precision: str = Field(description="Precision of the weights that it was learned on")
    vectors: int = Field(description="Number of embedding vectors")
    created_at: Timestamp
    from_personalization: str | None = Field(description="Job that learned it; null for an import")


class ImportedConcept(Concept):
    """An imported concept, with warnings about its file."""

    warnings: list[InputWarning] = Field(description="Warnings about the file; empty if there are none")


class BaseModelInfo(BaseModel):
    """A base model of the catalog."""

    id: str = Field(examples=["emoji"])
    object: Literal["base_model"] = "base_model"
    family: str | None = Field(description="sd1, sd2 or sdxl; null while unknown")
    precision: str = Field(
        description="How the weights are stored: int8, nf4, fp16 or fp32; `U-Net/text encoder/VAE` where they differ"
    )
    default: bool = Field(description="Whether requests without `base_model` use it")
    side_px: int | None = Field(description="Side of its training images in pixels; null while unknown")
    fingerprint: str | None = Field(description="SHA-256 of its weights; null while unknown")
    safety_checker: SafetyCheckerState | None = Field(
        description="on: flagged images are withheld; off: not enabled; missing: enabled, but the model ships none, "
        "so its images are not checked; null while unknown"
    )


class VocabularyMatch(BaseModel):
    """How a base model's tokenizer reads a text, and words that complete it."""

    object: Literal["vocabulary.match"] = "vocabulary.match"
    base_model: str = Field(description="Name of the base model in the catalog")
    text: str
    pieces: list[str] | None = Field(
        description="Tokens of the text; null while only workers have the files of the base model",
        examples=[["tu", "r"]],
    )
    is_initializer: bool | None = Field(
        description="Whether a search can start from the text; null while that is unknown"
    )
    suggestions: list[str] = Field(description="Words of the vocabulary that start with the text")


class PersonalizationList(BaseModel):
    """A page of a list, newest first. The next page starts `after` the last id."""

    object: Literal["list"] = "list"
    data: list[Personalization]
    has_more: bool


class GenerationList(BaseModel):
    """A page of a list, newest first. The next page starts `after` the last id."""

    object: Literal["list"] = "list"
    data: list[Generation]
    has_more: bool


class ConceptList(BaseModel):
    """A page of a list, newest first. The next page starts `after` the last id."""

    object: Literal["list"] = "list"
    data: list[Concept]
    has_more: bool


class BaseModelList(BaseModel):
    """All base models of the catalog."""

    object: Literal["list"] = "list"
    data: list[BaseModelInfo]
    has_more: bool = False


class Liveness(BaseModel):
    """State of this process."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Readiness of the service."""

    status: Literal["ok", "unavailable"]
    workers: int = Field(description="Number of workers that are ready")
    waits_for: str | None = Field(description="What the service waits for until a worker is ready")
