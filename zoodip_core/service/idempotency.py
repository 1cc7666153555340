"""Idempotency-Key: store the first response to a request and replay it for repetitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from zoodip_core.service.database import dialect_insert
from zoodip_core.service.errors import IdempotencyInFlightError, IdempotencyMismatchError
from zoodip_core.service.tables import idempotency

IN_FLIGHT_S = 120.0  # a request without a response after this time died with its process


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyRecord:
    """Identity of a request: its owner, route, Idempotency-Key and hash."""

    owner: str
    route: str
    key: str
    request_hash: str
    began_at: float  # seconds since 1970; distinguishes this request from an earlier one with the same key


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """The response to the first request."""

    status_code: int
    headers: dict[str, str]
    body: Any


def begin(connection: Connection, record: IdempotencyRecord) -> StoredResponse | None:
    """Register a request under its key.

    Returns:
        The stored response to replay, or None if this request is the first.

    Raises:
        IdempotencyMismatchError: The key was used with a different request.
        IdempotencyInFlightError: The first request is still in progress.
    """
    stale = and_(
        _same_key(record),
        idempotency.c.status_code.is_(None),
        idempotency.c.created_at < record.began_at - IN_FLIGHT_S,
    )
    connection.execute(delete(idempotency).where(stale))
    first = connection.execute(
        dialect_insert(connection, idempotency)
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
    row = connection.execute(select(idempotency).where(_same_key(record))).first()
    if row is not None and row.request_hash != record.request_hash:
        raise IdempotencyMismatchError(field="Idempotency-Key")
    if row is None or row.status_code is None:  # no row: the first request has just failed
        raise IdempotencyInFlightError(field="Idempotency-Key")
    return StoredResponse(status_code=row.status_code, headers=row.headers, body=row.body)


def find(connection: Connection, record: IdempotencyRecord) -> StoredResponse | None:
    """Return the response to an earlier request with the same key; None if there is none, or not yet.

    Raises:
        IdempotencyMismatchError: The key was used with a different request.
    """
    row = connection.execute(select(idempotency).where(_same_key(record))).first()
    if row is None:
        return None
    if row.request_hash != record.request_hash:
        raise IdempotencyMismatchError(field="Idempotency-Key")
    if row.status_code is None:
        return None
    return StoredResponse(status_code=row.status_code, headers=row.headers, body=row.body)


def finish(connection: Connection, record: IdempotencyRecord, response: StoredResponse) -> None:
    """Store the response, in the transaction that creates the resource.

    Raises:
        IdempotencyInFlightError: The request took too long, and a repetition has taken over its record.
    """
    stored = connection.execute(
        update(idempotency)
        .where(_in_flight(record))
        .values(status_code=response.status_code, headers=response.headers, body=response.body)
    )
    if stored.rowcount == 0:
        raise IdempotencyInFlightError(field="Idempotency-Key")


def abandon(connection: Connection, record: IdempotencyRecord) -> None:
    """Delete the record of a failed request, so that the client can retry."""
    connection.execute(delete(idempotency).where(_in_flight(record)))


def purge_expired(connection: Connection, before: float) -> int:
    """Delete the records from before a time, in seconds since 1970; return their number."""
    return connection.execute(delete(idempotency).where(idempotency.c.created_at < before)).rowcount


def _in_flight(record: IdempotencyRecord) -> ColumnElement[bool]:
    """Match the record of exactly this request, while it has no response."""
    return and_(
        _same_key(record), idempotency.c.status_code.is_(None), idempotency.c.created_at == record.began_at
    )


def _same_key(record: IdempotencyRecord) -> ColumnElement[bool]:
    return and_(
        idempotency.c.owner == record.owner,
        idempotency.c.route == record.route,
        idempotency.c.key == record.key,
    )
