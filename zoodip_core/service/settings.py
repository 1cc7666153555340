"""Settings of the service, read from environment variables with the prefix `ZOODIP_`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from zoodip_core.errors import InvalidSettingsError
from zoodip_core.expectations import expectation
from zoodip_core.images.limits import (
    MAX_FILE_BYTES,
    MAX_PIXELS,
    MAX_SETTABLE_FILE_MB,
    MAX_SETTABLE_MEGAPIXELS,
    ImageLimits,
)
from zoodip_core.service.setting_names import check_spelling

_PREFIX = "ZOODIP_"

Seconds = Annotated[float, Field(gt=0)]
_MAY_HOLD_SECRETS = frozenset(
    {"bootstrap_key", "webhook_secrets", "database_url", "broker_url", "object_store_url"}
)


def _default_data_dir() -> Path:
    return Path.home() / ".local" / "share" / "zoodip"


class ServiceSettings(BaseSettings):
    """Settings of a deployment. `zoodip settings` lists them."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix=_PREFIX, frozen=True)

    data_dir: Path = Field(default_factory=_default_data_dir, description="Folder for local data")
    database_url: str | None = Field(
        default=None,
        pattern=r"^(postgres|postgresql|postgresql\+psycopg|sqlite)://",
        description="PostgreSQL URL (postgresql://…); unset: SQLite in the data folder",
    )
    broker_url: str | None = Field(
        default=None,
        pattern=r"^rediss?://",
        description="Redis URL (redis://…); unset: a folder in the data folder",
    )
    object_store_url: str | None = Field(
        default=None,
        pattern=r"^(s3|file)://",
        description="s3://bucket/prefix or file:///folder; unset: a folder in the data folder",
    )
    base_models: Path | None = Field(
        default=None, description="TOML catalog of base models; unset: the embedded model only"
    )
    host: str = Field(default="127.0.0.1", description="Address on which the API listens")
    port: int = Field(default=8000, ge=0, le=65535, description="Port on which the API listens")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Origins that browsers may call the API from, comma-separated"
    )
    bootstrap_key: SecretStr | None = Field(
        default=None, description="API key (zd_…) with all scopes, created at start"
    )
    public_url: str = Field(default="", description="Prefix of the URLs in responses; empty: relative URLs")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lowest log level to write: DEBUG, INFO, WARNING or ERROR"
    )
    otlp_endpoint: str | None = Field(
        default=None, description="OTLP endpoint for traces (extra `telemetry`)"
    )

    heartbeat_s: Seconds = Field(
        default=10.0, description="Seconds between two renewals of a worker's leases"
    )
    lease_s: Seconds = Field(
        default=30.0,
        description="Seconds after which a job without heartbeat is requeued; at least twice ZOODIP_HEARTBEAT_S",
    )
    tick_s: Seconds = Field(
        default=1.0, description="Seconds between two database polls for jobs whose message was lost"
    )
    max_attempts: int = Field(
        default=3,
        ge=1,
        description="Crashes of a worker that fail the job, if it runs alone and saves no checkpoint in between",
    )
    drain_s: Seconds = Field(
        default=25.0, description="Seconds after SIGTERM to save checkpoints and requeue jobs"
    )
    stuck_after_s: Seconds = Field(
        default=1_800.0,
        description="Seconds without engine progress, even while loading, before a worker exits",
    )
    unready_after_s: Seconds = Field(
        default=120.0,
        description="Seconds without engine progress before a worker counts as not ready; a step may take as long",
    )
    slots: int = Field(default=8, ge=1, description="Personalizations that one worker runs in one batch")
    generation_slots: int = Field(
        default=16, ge=1, description="Generations that one worker draws in one batch"
    )
    personalization_share: float = Field(
        default=0.5,
        ge=0.0,
        le=0.9,
        description="Share of their speed that personalizations keep while their worker draws, 0 to 0.9",
    )
    max_rows: int | None = Field(
        default=None,
        ge=1,
        description="Most rows of one U-Net forward pass; unset: as many as fit into memory",
    )
    max_bundle_mb: int = Field(
        default=16_000,
        ge=1,
        description="MB for base models in one worker; models in use stay loaded beyond it",
    )
    dequantized_mb: int | None = Field(
        default=None,
        ge=0,
        description="MB of U-Net and text encoders in fp32 up to which their weights stay dequantized; "
        "unset: 64 on a CPU, 0 on other devices",
    )
    compile: bool = Field(
        default=False,
        description="on: compile U-Net and text encoders for each number of rows in the background; "
        "until then, and if that fails, they run eagerly",
    )
    device: str | None = Field(
        default=None, description="cpu, cuda, cuda:1, mps or xpu; unset: cuda if available, else cpu"
    )
    safety_checker: bool = Field(
        default=False,
        description="on: withhold images that the safety checker of the base model flags; "
        "a base model that ships none is not checked",
    )
    engine: str = Field(
        default="worker.diffusion_engine:DiffusionEngine", description="Import path of the engine class"
    )
    storage_retry_s: Seconds = Field(
        default=60.0,
        description="Seconds for which a worker retries a failing object store, such as a full disk",
    )
    progress_every: int = Field(default=10, ge=1, le=10, description="Steps between two progress events")
    preview_every: int = Field(default=500, ge=1, description="Most steps between two previews")
    keep_checkpoints: int = Field(default=3, ge=1, description="Checkpoints to keep for each job")

    max_generation_images: int = Field(default=64, ge=1, le=64, description="Images of one generation")
    max_generation_steps: int = Field(
        default=1_000, ge=1, le=1_000, description="Denoising steps of one generation"
    )
    max_generation_area: Annotated[float, Field(gt=0)] = Field(
        default=4.0, description="Largest area of a generated image; 1 is the native area of its base model"
    )
    max_generation_cost: Annotated[float, Field(gt=0)] = Field(
        default=20_000.0,
        description="Images × steps × area of one generation; an image of the native area in one step costs 1",
    )
    max_file_mb: Annotated[float, Field(gt=0, le=MAX_SETTABLE_FILE_MB)] = Field(
        default=MAX_FILE_BYTES / 1e6, description="Largest reference image file, in MB"
    )
    max_image_megapixels: Annotated[float, Field(gt=0, le=MAX_SETTABLE_MEGAPIXELS)] = Field(
        default=MAX_PIXELS / 1e6, description="Largest reference image, in megapixels"
    )
    image_urls: Literal["off", "public", "private"] = Field(
        default="off",
        description="Download reference images from URLs in requests: off; public: https and public addresses only; "
        "private: also http and private addresses",
    )
    decoders: int = Field(
        default=2,
        ge=1,
        description="Processes of the API that decode images; one owner uses at most half of them",
    )
    decode_timeout_s: Seconds = Field(default=20.0, description="Seconds that decoding one image may take")
    max_decode_mb: int = Field(
        default=2_000, ge=100, description="MB of memory that decoding one image may take"
    )
    max_queued: int = Field(default=10_000, ge=1, description="Unfinished jobs that the service accepts")
    max_evaluations_per_day: int | None = Field(
        default=None,
        ge=1,
        description="U-Net evaluations of one owner on a UTC day; API keys can have their own quota; unset: no limit",
    )
    max_seconds_per_day: Seconds | None = Field(
        default=None, description="Seconds of engine time of one owner on a UTC day; as above"
    )
    max_images_per_day: int | None = Field(
        default=None, ge=1, description="Generated images of one owner on a UTC day; as above"
    )
    max_stored_mb: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="MB of stored objects of one owner; as above"
    )
    usage_days: int = Field(
        default=400, ge=1, description="Days for which usage is listed; older days are merged into one total"
    )
    retention_days: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Days until images, previews, checkpoints and events of ended jobs are deleted; unset: never",
    )
    delete_references_on_success: bool = Field(
        default=False, description="Delete the reference images when the personalization succeeds"
    )
    idempotency_hours: Annotated[float, Field(gt=0)] = Field(
        default=24.0, description="Hours for which responses are replayed for an Idempotency-Key"
    )
    webhook_secrets: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Webhook signing keys (whsec_…) of a service without API keys, comma-separated, newest first",
    )
    webhook_private: bool = Field(
        default=False, description="Allow webhooks over http and to private addresses"
    )

    @field_validator("lease_s")
    @classmethod
    def _outlasts_heartbeat(cls, value: float, info: ValidationInfo) -> float:
        minimum = 2 * info.data.get("heartbeat_s", 0.0)
        if value < minimum:
            raise ValueError(f"at least {minimum:g}, twice ZOODIP_HEARTBEAT_S")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                make_url(value)
            except (ArgumentError, ValueError):  # the message can contain the password
                raise ValueError("a valid database URL") from None
        return value

    @field_validator("cors_origins", "webhook_secrets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @classmethod
    def from_environment(cls) -> Self:
        """Return the settings of this process.

        Raises:
            InvalidSettingsError: A variable has a misspelled name, or a value that is not allowed.
        """
        check_spelling(_PREFIX, cls.model_fields)
        try:
            return cls()
        except SettingsError as error:
            raise InvalidSettingsError(str(error)) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first["loc"][0])
            raise InvalidSettingsError.mismatch(
                f"{_PREFIX}{name.upper()}",
                got="a value that is not shown" if name in _MAY_HOLD_SECRETS else repr(first["input"]),
                expected=expectation(first["msg"]),
            ) from error

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the database."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir / 'zoodip.sqlite3'}"
        scheme, _, rest = self.database_url.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else self.database_url

    @property
    def redis_url(self) -> str | None:
        """URL of the broker if it is Redis, else None."""
        is_redis = (self.broker_url or "").startswith(("redis://", "rediss://"))
        return self.broker_url if is_redis else None

    @property
    def image_limits(self) -> ImageLimits:
        """Limits of each reference image."""
        return ImageLimits.of(file_mb=self.max_file_mb, megapixels=self.max_image_megapixels)

    @property
    def object_store(self) -> str:
        """URL of the object store."""
        return self.object_store_url or (self.data_dir / "objects").absolute().as_uri()
