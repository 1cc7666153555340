"""Database tables. Times are seconds since 1970 (UTC), which both databases store and compare in the same way."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

metadata = MetaData()


class _SqliteReal(TypeDecorator[float]):
    """Float column. SQLite's RETURNING gives whole numbers as integers; this type converts them."""

    impl = Double
    cache_ok = True

    def process_result_value(self, value: float | int | None, dialect: Dialect) -> float | None:
        """Return the value as a float."""
        return None if value is None else float(value)


_json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_real: TypeEngine[float] = Double().with_variant(_SqliteReal(), "sqlite")
_serial = BigInteger().with_variant(Integer(), "sqlite")

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("owner", String(80), nullable=False),
    Column("status", String(12), nullable=False),
    Column("base_model", String(100), nullable=False),
    Column("token", String(66)),
    Column("request", _json, nullable=False),  # resolved, so that the job can be run again from it
    Column("metadata", _json, nullable=False),
    Column("webhook", Text),
    Column("trace", String(80)),  # W3C traceparent of the request
    Column("total_steps", Integer, nullable=False),
    Column("step", Integer, nullable=False, default=0),
    Column("checkpoint_step", Integer, nullable=False, default=0),
    Column("checkpoints", _json, nullable=False),
    Column("it_per_s", _real),
    Column("eta_s", _real),
    Column("fixed_loss", _real),
    Column("result", _json),
    Column("error", _json),
    Column("wish", String(10), key="stop_request"),  # column name from the first schema
    Column("attempts", Integer, nullable=False, default=0),
    Column("fence", Integer, nullable=False, default=0),  # fencing token: each claim increments it
    Column("lease_owner", String(100)),
    Column("lease_expires_at", _real),
    Column("queued_at", _real, nullable=False),
    Column("created_at", _real, nullable=False),
    Column("started_at", _real),
    Column("finished_at", _real),
    Column("purged_at", _real),  # when retention deleted the data
    Column("key_id", String(40), nullable=False, server_default=""),  # empty: created without a key
    Column("estimated_evaluations", BigInteger, nullable=False, server_default="0"),
    Column("estimated_images", Integer, nullable=False, server_default="0"),
    Column("used_evaluations", BigInteger, nullable=False, server_default="0"),  # in all attempts
    Column("used_seconds", _real, nullable=False, server_default="0"),
    Column("used_images", Integer, nullable=False, server_default="0"),
    Index("jobs_queue", "kind", "status", "queued_at", "id"),
    Index("jobs_owner", "owner", "kind", "id"),
    Index("jobs_owner_status", "owner", "kind", "status", "id"),
    Index("jobs_lease", "lease_expires_at"),  # only running jobs have a lease
    Index("jobs_ended", "finished_at"),
)

events = Table(
    "events",
    metadata,
    Column("id", _serial, primary_key=True, autoincrement=True),
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("type", String(20), nullable=False),
    Column("data", _json, nullable=False),
    Column("created_at", _real, nullable=False),
    Index("events_job", "job_id", "id"),
    sqlite_autoincrement=True,
)

concepts = Table(
    "concepts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner", String(80), nullable=False),
    Column("token", String(66), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("base_model", String(100), nullable=False),
    Column("fingerprint", String(80), nullable=False),
    Column("precision", String(20), nullable=False),
    Column("vectors", Integer, nullable=False),
    Column("created_at", _real, nullable=False),
    Column("from_personalization", String(40)),
    UniqueConstraint("owner", "base_model", "token", name="concepts_name"),
    Index("concepts_owner", "owner", "id"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("prefix", String(16), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("name", String(100), nullable=False),
    Column("owner", String(80), nullable=False),
    Column("scopes", _json, nullable=False),
    Column("max_active_jobs", Integer),
    Column("max_concepts", Integer),
    Column("rate_per_minute", Integer),
    Column("max_evaluations_per_day", BigInteger),
    Column("max_seconds_per_day", _real),
    Column("max_images_per_day", BigInteger),
    Column("max_stored_mb", _real),
    Column("webhook_secrets", _json, nullable=False),
    Column("created_at", _real, nullable=False),
    Column("last_used_at", _real),
    Column("revoked_at", _real),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", String(80), primary_key=True),
    Column("route", String(80), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("status_code", Integer),  # null: the first request is still in progress
    Column("headers", _json),
    Column("body", _json),
    Column("created_at", _real, nullable=False),
    Index("idempotency_age", "created_at"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("owner", String(80), nullable=False),
    Column("url", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", _real),  # null: delivered or abandoned
    Column("delivered_at", _real),
    Column("last_status", Integer),
    Column("created_at", _real, nullable=False),
    Index("webhook_due", "due_at"),
)

disabled_webhooks = Table(
    "disabled_webhooks",
    metadata,
    Column("owner", String(80), primary_key=True),
    Column("url", Text, primary_key=True),
    Column("disabled_at", _real, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("started_at", _real, nullable=False),
    Column("seen_at", _real, nullable=False),
    Column("draining", Boolean, nullable=False, default=False),
    Column("stats", _json, nullable=False),
)

usage = Table(
    "usage",
    metadata,
    Column("owner", String(80), primary_key=True),
    Column("key_id", String(40), primary_key=True),  # empty: created without a key
    Column(
        "day", Integer, primary_key=True, autoincrement=False
    ),  # days since 1970 (UTC); 0: all expired days
    Column("evaluations", BigInteger, nullable=False),
    Column("seconds", _real, nullable=False),
    Column("images", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),  # largest sample of the day
    Index("usage_day", "day"),
)

stored_objects = Table(
    "stored_objects",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("resource_id", String(40), nullable=False),  # job or concept
    Column("owner", String(80), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Index("stored_objects_owner", "owner", "key_id"),
    Index("stored_objects_resource", "resource_id"),
)
