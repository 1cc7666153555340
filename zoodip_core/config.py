"""Frozen settings of a personalization and of a generation; every default names its source."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zoodip_core.errors import InvalidSettingsError

ConceptKind = Literal["object", "style"]
Precision = Literal["int8", "nf4", "fp16", "fp32"]
EstimatorName = Literal["rge", "spsa", "one_point"]
DirectionsName = Literal["gaussian", "orthogonal"]
DerivativeName = Literal["loss_difference", "residual"]
EstimateScaleName = Literal["mean", "dimension"]
SubspaceName = Literal["subspace_gradient", "none"]
TimestepsName = Literal["partial_uniform", "snr"]
ScheduleName = Literal["constant", "cosine"]
StopName = Literal["steps", "auto"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class _Settings(BaseModel):
    """Frozen; an unknown name is an error; a mistake is told as one InvalidSettingsError."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Settings from plain values.

        Raises:
            InvalidSettingsError: names the field, what came and what is allowed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(["settings", *(str(part) for part in first["loc"])])
            if first["type"] == "extra_forbidden":
                allowed = ", ".join(sorted(cls.model_fields))
                message = f"{field} is no setting; allowed: {allowed}"
            elif first["loc"]:
                message = f"{field} = {first['input']!r}: {first['msg']}"
            else:
                message = f"{field}: {first['msg']}"
            raise InvalidSettingsError(message, field=field) from error


class SearchSettings(_Settings):
    """What Algorithm 1 needs to know. The defaults are the paper's for SD1.5 (arXiv:2503.14868v1, Sec. 5.1)."""

    steps: int = Field(30_000, ge=1, le=1_000_000)  # L
    seed: int = Field(0, ge=0, lt=2**63)
    n: int = Field(2, ge=1, le=256)  # directions of one estimate, Eq. (3)
    mu: Positive = 1e-3  # length of a perturbation, Tab. of ablations
    learning_rate: Positive = 5e-3  # η
    learning_rate_schedule: ScheduleName = "constant"
    adam_beta1: Decay = 0.9  # β and ε of Adam: only in the published script
    adam_beta2: Decay = 0.999
    adam_eps: Positive = 1e-3
    estimator: EstimatorName = "rge"  # Eq. (3); Eq. (S11) and (S12) are the others
    directions: DirectionsName = "gaussian"
    derivative: DerivativeName = "loss_difference"
    estimate_scale: EstimateScaleName = "mean"  # "dimension": the published script's divisor
    subspace: SubspaceName = "subspace_gradient"
    tau: int = Field(128, ge=2, le=4096)  # length of the token history B, Eq. (4)
    nu: float = Field(1e-3, gt=0, lt=1)  # share of variance to drop, Eq. (6)
    timesteps: TimestepsName = "partial_uniform"
    t_low: int = Field(500, ge=0, lt=1_000_000)  # T_L, Eq. (9)
    t_high: int = Field(900, ge=1, le=1_000_000)  # T_U, Eq. (9)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.t_low >= self.t_high:
            raise ValueError(f"t_low ({self.t_low}) must be below t_high ({self.t_high})")
        if self.derivative == "residual" and self.estimator != "rge":
            raise ValueError('derivative="residual" needs estimator="rge": it is one-sided by construction')
        return self


class PersonalizationSettings(SearchSettings):
    """What a personalization needs beside the search itself."""

    vectors: int = Field(1, ge=1, le=16)  # embedding rows of one token
    flip: bool = True  # mirror images at random: only in the published script
    stop: StopName = "steps"  # "auto": end before that once the fixed-set loss has stopped falling
    fixed_rows: int = Field(48, ge=1, le=1024)  # size of the fixed set that measures progress
    measure_every: int = Field(
        500, ge=1, le=1_000_000
    )  # steps between two measurements: 3 % more forwards at n = 2
    checkpoint_every: int = Field(100, ge=1, le=1_000_000)  # steps between two checkpoints


class GenerationSettings(_Settings):
    """How images are drawn from a prompt."""

    prompt: str = Field(min_length=1, max_length=2000)
    negative_prompt: str = Field("", max_length=2000)
    n: int = Field(1, ge=1, le=64)
    steps: int = Field(20, ge=1, le=1000)
    guidance_scale: float = Field(7.5, ge=0, le=100)
    seed: int = Field(0, ge=0, lt=2**63)
    scheduler: str | None = None  # None: the one that the base model names
    width: int | None = Field(None, ge=8, le=4096)  # None: the base model's own size
    height: int | None = Field(None, ge=8, le=4096)
