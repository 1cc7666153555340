"""The service's settings: from the environment with the prefix `ZOODIP_`, frozen, each explained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from zoodip_core.errors import InvalidSettingsError

Seconds = Annotated[float, Field(gt=0)]


def _default_data_dir() -> Path:
    return Path.home() / ".local" / "share" / "zoodip"


class ServiceSettings(BaseSettings):
    """What a deployment decides. `zoodip settings` lists these."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="ZOODIP_", frozen=True)

    data_dir: Path = Field(default_factory=_default_data_dir, description="Folder of everything local")
    database_url: str | None = Field(
        default=None,
        pattern=r"^(postgres|postgresql|postgresql\+psycopg|sqlite)://",
        description="postgresql://…; unset: SQLite in the data folder",
    )
    broker_url: str | None = Field(
        default=None, pattern=r"^rediss?://", description="redis://…; unset: a folder in the data folder"
    )
    object_store_url: str | None = Field(
        default=None, pattern=r"^(s3|file)://", description="s3://bucket/prefix; unset: a folder"
    )
    base_models: Path | None = Field(
        default=None, description="TOML catalogue; unset: the embedded model alone"
    )
    host: str = Field(default="127.0.0.1", description="Address that the API listens on")
    port: int = Field(default=8000, ge=0, le=65535, description="Port that the API listens on")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Origins, comma-separated"
    )
    bootstrap_key: SecretStr | None = Field(
        default=None, description="A key (zd_…) with every scope, made known at start"
    )
    public_url: str = Field(default="", description="Prefix of the URLs in answers; empty: relative URLs")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="DEBUG, INFO, WARNING or ERROR"
    )
    otlp_endpoint: str | None = Field(default=None, description="Where traces go (extra `telemetry`)")

    lease_s: Seconds = Field(default=30.0, description="A worker silent for this long has lost its jobs")
    heartbeat_s: Seconds = Field(default=10.0, description="How often a worker extends its leases")
    tick_s: Seconds = Field(
        default=1.0, description="How often a worker looks for work whose message vanished"
    )
    max_attempts: int = Field(default=3, ge=1, description="Starts of one job before a crash fails it")
    drain_s: Seconds = Field(default=25.0, description="Grace for checkpoints after SIGTERM")
    stuck_after_s: Seconds = Field(
        default=1_800.0, description="Silence of the engine (it may load, or draw) after which a worker ends"
    )
    slots: int = Field(default=8, ge=1, description="Personalizations that one worker batches")
    max_bundle_mb: int = Field(
        default=16_000, ge=1, description="Memory for base models in one worker; those in use stay beyond it"
    )
    device: str | None = Field(default=None, description="cpu or cuda; unset: what is there")
    engine: str = Field(
        default="worker.diffusion_engine:DiffusionEngine", description="Import path of the engine"
    )
    progress_every: int = Field(default=10, ge=1, le=10, description="Steps between two progress events")
    preview_every: int = Field(default=500, ge=1, description="Steps between two previews")
    keep_checkpoints: int = Field(default=3, ge=1, description="Checkpoints kept of one job")

    max_file_mb: Annotated[float, Field(gt=0, le=10)] = Field(
        default=10.0, description="Largest reference image file"
    )
    max_queued: int = Field(default=10_000, ge=1, description="Unfinished jobs of the whole service")
    retention_days: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Age at which ended jobs lose photos, previews, checkpoints and events; unset: never",
    )
    delete_references_on_success: bool = Field(
        default=False, description="Drop the photos once the concept exists"
    )
    idempotency_hours: Annotated[float, Field(gt=0)] = Field(
        default=24.0, description="How long answers are replayed"
    )
    webhook_secrets: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="whsec_… of a service without keys, comma-separated, newest first"
    )
    webhook_private: bool = Field(default=False, description="Allow http and private addresses (an intranet)")

    @model_validator(mode="after")
    def _outlives_a_heartbeat(self) -> Self:
        if self.lease_s < 2 * self.heartbeat_s:
            raise ValueError(
                f"lease_s ({self.lease_s:g}) must be at least twice heartbeat_s ({self.heartbeat_s:g})"
            )
        return self

    @field_validator("database_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                make_url(value)
            except (ArgumentError, ValueError):  # its words may hold the password
                raise ValueError("it is no URL of a database") from None
        return value

    @field_validator("cors_origins", "webhook_secrets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @classmethod
    def from_environment(cls) -> Self:
        """The settings of this process.

        Raises:
            InvalidSettingsError: names the variable, what came and what is allowed.
        """
        try:
            return cls()
        except (ValidationError, SettingsError) as error:
            if isinstance(error, SettingsError):
                raise InvalidSettingsError(str(error)) from error
            first = error.errors(include_url=False, include_input=False)[0]
            variable = f"ZOODIP_{(*first['loc'], 'lease_s')[0]}".upper()
            raise InvalidSettingsError(f"{variable}: {first['msg']}", field=variable) from error

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in use."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir / 'zoodip.sqlite3'}"
        scheme, _, rest = self.database_url.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else self.database_url

    @property
    def redis_url(self) -> str | None:
        """The broker's URL where it is Redis."""
        is_redis = (self.broker_url or "").startswith(("redis://", "rediss://"))
        return self.broker_url if is_redis else None

    @property
    def object_store(self) -> str:
        """The object store's URL in use."""
        return self.object_store_url or (self.data_dir / "objects").absolute().as_uri()
