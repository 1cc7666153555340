"""Idempotency-Key: the first response to a request is the response to its repetitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from zoodip_core.service.errors import IdempotencyInFlightError, IdempotencyMismatchError
from zoodip_core.service.tables import idempotency

IN_FLIGHT_S = 120.0  # a first request that has not answered by then died with its process


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyRecord:
    """One request under a client's key on one route."""

    owner: str
    route: str
    key: str
    request_hash: str
    began_at: float  # seconds since 1970; tells this request's record from that of an earlier one


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """What the first request was answered."""

    status_code: int
    headers: dict[str, str]
    body: Any


def begin(connection: Connection, record: IdempotencyRecord) -> StoredResponse | None:
    """The stored response to replay; None if this request is the first and must be answered.

    Raises:
        IdempotencyMismatchError: the key was used with another request.
        IdempotencyInFlightError: the first request is still being answered.
    """
    stale = and_(
        _of_key(record),
        idempotency.c.status_code.is_(None),
        idempotency.c.created_at < record.began_at - IN_FLIGHT_S,
    )
    connection.execute(delete(idempotency).where(stale))
    dialect_insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    first = connection.execute(
        dialect_insert(idempotency)
        .values(
            owner=record.owner,
            route=record.route,
            key=record.key,
            request_hash=record.request_hash,
            created_at=record.began_at,
        )
        .on_conflict_do_nothing()
        .returning(idempotency.c.key)
    ).first()
    if first is not None:
        return None
    row = connection.execute(select(idempotency).where(_of_key(record))).first()
    if row is not None and row.request_hash != record.request_hash:
        raise IdempotencyMismatchError(field="Idempotency-Key")
    if row is None or row.status_code is None:  # none: the first has just failed
        raise IdempotencyInFlightError(field="Idempotency-Key")
    return StoredResponse(status_code=row.status_code, headers=row.headers, body=row.body)


def finish(connection: Connection, record: IdempotencyRecord, response: StoredResponse) -> None:
    """Keep the response, in the transaction that made what it tells of.

    Raises:
        IdempotencyInFlightError: this took so long that a repetition has answered, or may.
    """
    kept = connection.execute(
        update(idempotency)
        .where(_ours(record))
        .values(status_code=response.status_code, headers=response.headers, body=response.body)
    )
    if kept.rowcount == 0:
        raise IdempotencyInFlightError(field="Idempotency-Key")


def abandon(connection: Connection, record: IdempotencyRecord) -> None:
    """Forget a request that failed, so that the client may try again."""
    connection.execute(delete(idempotency).where(_ours(record)))


def purge_expired(connection: Connection, before: float) -> int:
    """Drop the answers from before that time; how many."""
    return connection.execute(delete(idempotency).where(idempotency.c.created_at < before)).rowcount


def _ours(record: IdempotencyRecord) -> ColumnElement[bool]:
    """This very request's record, while it is unanswered."""
    return and_(
        _of_key(record), idempotency.c.status_code.is_(None), idempotency.c.created_at == record.began_at
    )


def _of_key(record: IdempotencyRecord) -> ColumnElement[bool]:
    return and_(
        idempotency.c.owner == record.owner,
        idempotency.c.route == record.route,
        idempotency.c.key == record.key,
    )
