"""API keys: made, shown once, kept as SHA-256, found again, revoked."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, exists, insert, select, update

from zoodip_core.errors import InvalidInputError
from zoodip_core.service.database import acquire_creation_lock
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.ids import new_id
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tables import keys

SCOPES = ("read", "write", "admin")
PREFIX = "zd_"
_SECRET_BYTES = 32  # 256 random bits
_VISIBLE_CHARACTERS = len(PREFIX) + 6
_MIN_CHARACTERS = len(PREFIX) + 22  # 128 bits in base64


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key; the secret itself is nowhere."""

    id: str
    prefix: str
    name: str
    owner: str
    scopes: list[str]
    max_active_jobs: int | None
    max_concepts: int | None
    rate_per_minute: int | None
    webhook_secrets: list[str]
    created_at: float
    last_used_at: float | None
    revoked_at: float | None


def new_secret() -> str:
    """A fresh API key in the form that its holder sends."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def new_webhook_secret() -> str:
    """A fresh signing secret in the form of Standard Webhooks."""
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
) -> ApiKey:
    """The stored key. Keys of one `owner` see the same jobs and concepts (so that keys can be rotated).

    Raises:
        InvalidInputError: an unknown scope, or a secret that is too short to be one.
    """
    _check(secret, scopes)
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
            webhook_secrets=[new_webhook_secret()],
            created_at=now,
        )
        .returning(keys)
    ).mappings()
    return _key(row.one())


def find(connection: Connection, secret: str) -> ApiKey | None:
    """The key with this secret, unless it was revoked."""
    query = select(keys).where(keys.c.sha256 == digest(secret), keys.c.revoked_at.is_(None))
    row = connection.execute(query).mappings().first()
    return None if row is None else _key(row)


def any_exist(connection: Connection) -> bool:
    """Whether this service asks for keys. A revoked one counts: revoking the last key opens nothing."""
    return bool(connection.execute(select(exists().where(keys.c.id.is_not(None)))).scalar())


def list_all(connection: Connection) -> list[ApiKey]:
    """Every key, oldest first."""
    return [_key(row) for row in connection.execute(select(keys).order_by(keys.c.id)).mappings()]


def revoke(connection: Connection, key_id: str, now: float) -> ApiKey:
    """The key, which opens nothing any more.

    Raises:
        NotFoundError: there is none of that id.
    """
    return _change(connection, key_id, revoked_at=now)


def rotate_webhook_secret(connection: Connection, key_id: str) -> ApiKey:
    """The key with a new signing secret in front; messages carry the old one's signature too, until the next.

    Raises:
        NotFoundError: there is none of that id.
    """
    current = connection.execute(select(keys.c.webhook_secrets).where(keys.c.id == key_id)).scalar()
    return _change(connection, key_id, webhook_secrets=[new_webhook_secret(), *(current or [])[:1]])


def webhook_secrets_of(connection: Connection, owner: str) -> list[str]:
    """The owner's signing secrets: those of its keys that are not revoked."""
    query = select(keys.c.webhook_secrets).where(keys.c.owner == owner, keys.c.revoked_at.is_(None))
    return [
        secret for held in connection.execute(query.order_by(keys.c.id.desc())).scalars() for secret in held
    ]


def note_use(connection: Connection, key_id: str, now: float) -> None:
    """Remember when the key was last used."""
    connection.execute(update(keys).where(keys.c.id == key_id).values(last_used_at=now))


def ensure(connection: Connection, secret: str, now: float, name: str) -> None:
    """Make sure that this key exists with every scope (containers start with one given by environment)."""
    acquire_creation_lock(connection)  # several start together
    if connection.execute(select(keys.c.id).where(keys.c.sha256 == digest(secret))).first() is None:
        create(connection, secret, now, name=name, scopes=SCOPES)


def ensure_bootstrap_key(connection: Connection, settings: ServiceSettings, now: float) -> None:
    """Store the key of `ZOODIP_BOOTSTRAP_KEY`, if one is set and not stored yet."""
    if settings.bootstrap_key is not None:
        ensure(connection, settings.bootstrap_key.get_secret_value(), now, "bootstrap")


def _change(connection: Connection, key_id: str, **values: object) -> ApiKey:
    row = connection.execute(
        update(keys).where(keys.c.id == key_id).values(**values).returning(keys)
    ).mappings()
    found = row.first()
    if found is None:
        raise NotFoundError(f"no key {key_id}")
    return _key(found)


def _check(secret: str, scopes: tuple[str, ...]) -> None:
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise InvalidInputError(f"unknown scope {unknown[0]!r}; allowed: {', '.join(SCOPES)}", field="scopes")
    if not secret.startswith(PREFIX) or len(secret) < _MIN_CHARACTERS:
        raise InvalidInputError(f"a key starts with {PREFIX} and has at least {_MIN_CHARACTERS} characters")


def digest(secret: str) -> str:
    """What is stored of a secret: SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: Mapping[Any, Any]) -> ApiKey:
    values = dict(row)
    del values["sha256"]
    return ApiKey(**values)
