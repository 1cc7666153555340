"""Frozen settings of personalizations and generations; each default names its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zoodip_core.errors import InvalidSettingsError
from zoodip_core.expectations import expectation

ConceptKind = Literal["object", "style"]
Precision = Literal["int8", "nf4", "fp16", "fp32"]
PRECISIONS: tuple[Precision, ...] = ("int8", "nf4", "fp16", "fp32")
EstimatorName = Literal["rge", "spsa", "one_point"]
DirectionsName = Literal["gaussian", "orthogonal"]
DerivativeName = Literal["loss_difference", "residual"]
EstimateScaleName = Literal["mean", "dimension"]
SubspaceName = Literal["subspace_gradient", "none"]
NullDirectionsName = Literal["keep", "remove"]
ImageSamplingName = Literal["with_replacement", "without_replacement"]
ImageFitName = Literal["crop", "squash"]
TimestepsName = Literal["partial_uniform", "stratified", "snr"]
ScheduleName = Literal["constant", "cosine"]
StopName = Literal["steps", "auto"]
PromptSyntax = Literal["plain", "weighted"]
LongPrompts = Literal["chunks", "truncate"]
SearchSpaceName = Literal["full", "calibrated"]


@dataclass(frozen=True)
class PartPrecisions:
    """Precision of each part of a base model. Both text encoders of SDXL have the same."""

    unet: Precision
    text_encoder: Precision
    vae: Precision

    @classmethod
    def of(cls, precision: Precision) -> PartPrecisions:
        """Return the parts of a named precision: `nf4` is an NF4 U-Net with INT8 text encoders and VAE.

        Source: arXiv:2503.14868v1, Sec. 5.1 ("INT4 U-Net")
        """
        others: Precision = "int8" if precision == "nf4" else precision
        return cls(unet=precision, text_encoder=others, vae=others)

    def __str__(self) -> str:
        """The named precision, or `U-Net/text encoder/VAE` if no name has these parts."""
        if self == self.of(self.unet):
            return self.unet
        return f"{self.unet}/{self.text_encoder}/{self.vae}"


EVALUATIONS: dict[EstimatorName, Callable[[int], int]] = {
    "rge": lambda n: n + 1,
    "spsa": lambda n: 2 * n,
    "one_point": lambda n: n + 1,
}
"""Estimator → U-Net evaluations of one estimate along n directions."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class _Settings(BaseModel):
    """Base of frozen settings. Unknown names and bad values raise one InvalidSettingsError."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Return settings from plain values.

        Raises:
            InvalidSettingsError: a name is unknown, or a value is not allowed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(["settings", *(str(part) for part in first["loc"])])
            if first["type"] == "extra_forbidden":
                names = ", ".join(sorted(cls.model_fields))
                raise InvalidSettingsError.mismatch(
                    field, got="an unknown setting", expected=f"one of {names}"
                ) from error
            if not first["loc"]:
                raise InvalidSettingsError(f"{field}: {expectation(first['msg'])}", field=field) from error
            raise InvalidSettingsError.mismatch(
                field, got=repr(first["input"]), expected=expectation(first["msg"])
            ) from error


class SearchSettings(_Settings):
    """Settings of Algorithm 1. The defaults are the paper's for SD1.5 (arXiv:2503.14868v1, Sec. 5.1)."""

    steps: int = Field(30_000, ge=1, le=1_000_000, description="Steps of Algorithm 1 (L)")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of all random numbers of the search")
    n: int = Field(2, ge=1, le=256, description="Random directions of one gradient estimate, Eq. (3)")
    mu: Positive = Field(
        1e-3, description="Length of a perturbation (μ); in the calibrated space relative to learned moves"
    )
    learning_rate: Positive = Field(5e-3, description="Learning rate of Adam (η)")
    learning_rate_schedule: ScheduleName = Field(
        "constant", description="Learning rate over the steps; `cosine` decays to almost 0"
    )
    adam_beta1: Decay = Field(0.9, description="Decay of the first moment; from the published script")
    adam_beta2: Decay = Field(0.999, description="Decay of the second moment; from the published script")
    adam_eps: Positive = Field(1e-3, description="ε of Adam; from the published script")
    estimator: EstimatorName = Field(
        "rge",
        description="Gradient estimator: forward differences (Eq. 3), SPSA (Eq. S11) or one-point (Eq. S12)",
    )
    directions: DirectionsName = Field(
        "gaussian", description="Directions: independent Gaussian, or orthogonal to each other"
    )
    derivative: DerivativeName = Field(
        "loss_difference",
        description="Derivative along a direction, from loss differences or from the residual",
    )
    estimate_scale: EstimateScaleName = Field(
        "mean", description="Divisor of the estimate: n, or the published script's divisor (`dimension`)"
    )
    subspace: SubspaceName = Field(
        "subspace_gradient", description="Projection of the gradient; `none` keeps the estimate as it is"
    )
    tau: int = Field(128, ge=2, le=4096, description="Length of the token history (τ), Eq. (4)")
    nu: float = Field(
        1e-3, gt=0, lt=1, description="Share of variance that the projection drops (ν), Eq. (6)"
    )
    null_directions: NullDirectionsName = Field(
        "keep",
        description="Directions without any variance in the history: keep them, or remove them as printed",
    )
    image_sampling: ImageSamplingName = Field(
        "with_replacement",
        description="Image of a step: drawn from all, or from those that this round has not used yet",
    )
    timesteps: TimestepsName = Field(
        "partial_uniform",
        description="Distribution of the timesteps: uniform in [t_low, t_high), evenly spread there, or by `snr`",
    )
    t_low: int = Field(500, ge=0, lt=1_000_000, description="Lowest timestep (T_L), Eq. (9)")
    t_high: int = Field(900, ge=1, le=1_000_000, description="End of the timesteps, exclusive (T_U), Eq. (9)")

    @property
    def evaluations_per_step(self) -> int:
        """U-Net evaluations of one step."""
        return EVALUATIONS[self.estimator](self.n)

    @property
    def evaluations(self) -> int:
        """U-Net evaluations of the whole search, without measurements of the validation loss."""
        return self.steps * self.evaluations_per_step

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.t_low >= self.t_high:
            raise ValueError(f"t_low is {self.t_low} and t_high is {self.t_high}; expected t_low < t_high")
        if self.derivative == "residual" and self.estimator != "rge":
            raise ValueError('derivative="residual" is one-sided, so it requires estimator="rge"')
        return self


class PersonalizationSettings(SearchSettings):
    """Settings of a personalization: those of the search, and its training data and schedule."""

    search_space: SearchSpaceName = Field(
        "full",
        description="Algorithm 1 on the token, or Gauss–Newton steps in the base model's calibrated space",
    )
    vectors: int = Field(1, ge=1, le=16, description="Embedding vectors of one token")
    flip: bool = Field(True, description="Mirror images at random; from the published script")
    image_fit: ImageFitName = Field(
        "crop", description="How an image becomes a square: cropped to its center, or squashed"
    )
    masked_loss: bool = Field(
        False,
        description="Weight the loss by the opacity of the images, so that transparent parts do not count",
    )
    stop: StopName = Field(
        "steps",
        description="End after all steps, or earlier once the validation loss has stopped falling (`auto`)",
    )
    fixed_rows: int = Field(48, ge=1, le=1024, description="Size of the validation set")
    measure_every: int = Field(
        500, ge=1, le=1_000_000, description="Steps between two measurements of the validation loss"
    )
    checkpoint_every: int = Field(100, ge=1, le=1_000_000, description="Steps between two checkpoints")

    @model_validator(mode="after")
    def _one_calibrated_vector(self) -> Self:
        if self.search_space == "calibrated" and self.vectors != 1:
            raise ValueError(
                f'search_space is "calibrated" and vectors is {self.vectors}; expected vectors=1'
            )
        if self.search_space == "calibrated" and self.estimator != "rge":
            raise ValueError(
                f'search_space is "calibrated" and estimator is "{self.estimator}"; expected estimator="rge"'
            )
        return self


class GenerationSettings(_Settings):
    """Settings of a generation."""

    prompt: str = Field(
        min_length=1, max_length=2000, description="Text to draw, with the tokens of concepts"
    )
    negative_prompt: str = Field("", max_length=2000, description="Text to steer away from")
    prompt_syntax: PromptSyntax = Field(
        "plain",
        description="Syntax of both prompts: plain text, or `(word:1.2)`, `(word)` and `[word]` for weights",
    )
    long_prompts: LongPrompts = Field(
        "chunks",
        description="Prompts beyond the text window: encoded in chunks as in A1111, or truncated with a warning",
    )
    n: int = Field(1, ge=1, le=64, description="Number of images")
    steps: int = Field(20, ge=1, le=1000, description="Denoising steps")
    guidance_scale: float = Field(7.5, ge=0, le=100, description="Guidance scale; 1 turns guidance off")
    guidance_rescale: float = Field(
        0, ge=0, le=1, description="Share of the correction for overexposed guided images; 0 turns it off"
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="Seed of the first image; image k has the seed `seed + k`"
    )
    scheduler: str | None = Field(None, description="Scheduler; unset: that of the base model")
    width: int | None = Field(
        None, ge=8, le=4096, description="Width in pixels; unset: that of the base model"
    )
    height: int | None = Field(
        None, ge=8, le=4096, description="Height in pixels; unset: that of the base model"
    )

    @model_validator(mode="after")
    def _has_seeds(self) -> Self:
        if self.seed + self.n > 2**63:
            raise ValueError(f"seed is {self.seed} and n is {self.n}; expected seed + n - 1 < 2**63")
        return self
