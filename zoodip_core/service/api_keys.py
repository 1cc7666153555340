"""API keys: create, find, list and revoke. Only the SHA-256 digest of a key is stored."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, exists, insert, select, update

from zoodip_core.errors import InvalidInputError
from zoodip_core.service.database import acquire_creation_lock
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.ids import new_id
from zoodip_core.service.quotas import NO_QUOTAS, Quotas
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tables import keys

SCOPES = ("read", "write", "admin")
LOCAL_OWNER = "local"
"""Owner of everything that is created on a service without keys."""

PREFIX = "zd_"
_SECRET_BYTES = 32  # 256 random bits
_VISIBLE_CHARACTERS = len(PREFIX) + 6
_MIN_CHARACTERS = len(PREFIX) + 22  # 128 bits in base64


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A stored API key, without its secret."""

    id: str
    prefix: str
    name: str
    owner: str
    scopes: list[str]
    max_active_jobs: int | None
    max_concepts: int | None
    rate_per_minute: int | None
    max_evaluations_per_day: int | None
    max_seconds_per_day: float | None
    max_images_per_day: int | None
    max_stored_mb: float | None
    webhook_secrets: list[str]
    created_at: float
    last_used_at: float | None
    revoked_at: float | None


def new_secret() -> str:
    """Return a new random API key, as clients send it."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def new_webhook_secret() -> str:
    """Return a new random signing secret in the format of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def create(
    connection: Connection,
    secret: str,
    now: float,
    *,
    name: str,
    owner: str | None = None,
    scopes: tuple[str, ...] = ("read", "write"),
    max_active_jobs: int | None = None,
    max_concepts: int | None = None,
    rate_per_minute: int | None = None,
    quotas: Quotas = NO_QUOTAS,
) -> ApiKey:
    """Store an API key and return it.

    Args:
        connection: Write transaction.
        secret: The key as clients send it; only its digest is stored.
        now: Time of creation, in seconds since 1970.
        name: Label for people.
        owner: Identity that jobs and concepts belong to. Keys of one owner share them, so that keys can be
            rotated. Default: the id of the new key.
        scopes: Some of `SCOPES`.
        max_active_jobs: Quota of unfinished jobs; None for no limit.
        max_concepts: Quota of concepts; None for no limit.
        rate_per_minute: Requests a minute; None for no limit.
        quotas: Quotas of usage, which replace those of the settings.

    Raises:
        InvalidInputError: A scope is unknown, or the secret is too short or lacks its prefix.
    """
    _check_new(secret, scopes)
    key_id = new_id("key", now)
    row = connection.execute(
        insert(keys)
        .values(
            id=key_id,
            prefix=secret[:_VISIBLE_CHARACTERS],
            sha256=digest(secret),
            name=name,
            owner=owner or key_id,
            scopes=list(scopes),
            max_active_jobs=max_active_jobs,
            max_concepts=max_concepts,
            rate_per_minute=rate_per_minute,
            **asdict(quotas),
            webhook_secrets=[new_webhook_secret()],
            created_at=now,
        )
        .returning(keys)
    ).mappings()
    return _key(row.one())


def find_by_digest(connection: Connection, sha256: str) -> ApiKey | None:
    """Return the key whose secret has this digest, or None if it does not exist or is revoked."""
    query = select(keys).where(keys.c.sha256 == sha256, keys.c.revoked_at.is_(None))
    row = connection.execute(query).mappings().first()
    return None if row is None else _key(row)


def any_exist(connection: Connection) -> bool:
    """Return whether requests need a key. Revoked keys count, so revoking the last key does not open the API."""
    return bool(connection.execute(select(exists().where(keys.c.id.is_not(None)))).scalar())


def list_all(connection: Connection) -> list[ApiKey]:
    """Return all keys, oldest first."""
    return [_key(row) for row in connection.execute(select(keys).order_by(keys.c.id)).mappings()]


def revoke(connection: Connection, key_id: str, now: float) -> ApiKey:
    """Revoke a key and return it.

    Raises:
        NotFoundError: The key does not exist.
    """
    return _change(connection, key_id, revoked_at=now)


def rotate_webhook_secret(connection: Connection, key_id: str) -> ApiKey:
    """Add a new signing secret to a key and return the key.

    Messages are signed with the new and the previous secret until the next rotation.

    Raises:
        NotFoundError: The key does not exist.
    """
    current = connection.execute(select(keys.c.webhook_secrets).where(keys.c.id == key_id)).scalar()
    return _change(connection, key_id, webhook_secrets=[new_webhook_secret(), *(current or [])[:1]])


def webhook_secrets_of(connection: Connection, owner: str) -> list[str]:
    """Return the signing secrets of the owner's active keys, newest key first."""
    query = select(keys.c.webhook_secrets).where(keys.c.owner == owner, keys.c.revoked_at.is_(None))
    return [
        secret for held in connection.execute(query.order_by(keys.c.id.desc())).scalars() for secret in held
    ]


def record_use(connection: Connection, key_id: str, now: float) -> None:
    """Record when the key was last used."""
    connection.execute(update(keys).where(keys.c.id == key_id).values(last_used_at=now))


def ensure(connection: Connection, secret: str, now: float, name: str) -> None:
    """Create the key with all scopes if it does not exist."""
    acquire_creation_lock(connection)  # several processes can start at once
    if connection.execute(select(keys.c.id).where(keys.c.sha256 == digest(secret))).first() is None:
        create(connection, secret, now, name=name, scopes=SCOPES)


def ensure_bootstrap_key(connection: Connection, settings: ServiceSettings, now: float) -> None:
    """Create the key of `ZOODIP_BOOTSTRAP_KEY`, if it is set and does not exist."""
    if settings.bootstrap_key is not None:
        ensure(connection, settings.bootstrap_key.get_secret_value(), now, "bootstrap")


def _change(connection: Connection, key_id: str, **values: object) -> ApiKey:
    row = connection.execute(
        update(keys).where(keys.c.id == key_id).values(**values).returning(keys)
    ).mappings()
    found = row.first()
    if found is None:
        raise NotFoundError(f"API key {key_id} does not exist")
    return _key(found)


def _check_new(secret: str, scopes: tuple[str, ...]) -> None:
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise InvalidInputError.mismatch(
            "scopes", got=repr(unknown[0]), expected=f"one of {', '.join(SCOPES)}"
        )
    if not secret.startswith(PREFIX) or len(secret) < _MIN_CHARACTERS:
        raise InvalidInputError.mismatch(
            "key",
            got=f"{len(secret)} characters",
            expected=f"{PREFIX} followed by at least {_MIN_CHARACTERS - len(PREFIX)} characters",
        )


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret, in hexadecimal; this is the stored form."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: Mapping[Any, Any]) -> ApiKey:
    values = dict(row)
    del values["sha256"]
    return ApiKey(**values)
