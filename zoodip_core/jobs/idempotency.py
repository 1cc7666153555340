"""Idempotency-Key: the first answer to a request is the answer to its repetitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from zoodip_core.jobs.errors import IdempotencyInFlightError, IdempotencyMismatchError
from zoodip_core.jobs.tables import idempotency

IN_FLIGHT_S = 120.0  # a first request that has not answered by then died with its process


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One client's use of one key on one route."""

    owner: str
    route: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the first request was answered."""

    status_code: int
    headers: dict[str, str]
    body: Any


def begin(connection: Connection, ticket: Ticket, request_hash: str, now: float) -> Answer | None:
    """The stored answer to replay; None if this request is the first and must be answered.

    Raises:
        IdempotencyMismatchError: the key was used with another request.
        IdempotencyInFlightError: the first request is still being answered.
    """
    stale = and_(
        _is(ticket), idempotency.c.status_code.is_(None), idempotency.c.created_at < now - IN_FLIGHT_S
    )
    connection.execute(delete(idempotency).where(stale))
    dialect_insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    first = connection.execute(
        dialect_insert(idempotency)
        .values(
            owner=ticket.owner,
            route=ticket.route,
            key=ticket.key,
            request_hash=request_hash,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(idempotency.c.key)
    ).first()
    if first is not None:
        return None
    row = connection.execute(select(idempotency).where(_is(ticket))).one()
    if row.request_hash != request_hash:
        raise IdempotencyMismatchError(field="Idempotency-Key")
    if row.status_code is None:
        raise IdempotencyInFlightError(field="Idempotency-Key")
    return Answer(status_code=row.status_code, headers=row.headers, body=row.body)


def finish(connection: Connection, ticket: Ticket, answer: Answer) -> None:
    """Keep the answer, in the transaction that made what it tells of."""
    connection.execute(
        update(idempotency)
        .where(_is(ticket))
        .values(status_code=answer.status_code, headers=answer.headers, body=answer.body)
    )


def abandon(connection: Connection, ticket: Ticket) -> None:
    """Forget a request that failed, so that the client may try again."""
    connection.execute(delete(idempotency).where(_is(ticket), idempotency.c.status_code.is_(None)))


def forget_old(connection: Connection, before: float) -> int:
    """Drop the answers from before that time; how many."""
    return connection.execute(delete(idempotency).where(idempotency.c.created_at < before)).rowcount


def _is(ticket: Ticket) -> ColumnElement[bool]:
    return and_(
        idempotency.c.owner == ticket.owner,
        idempotency.c.route == ticket.route,
        idempotency.c.key == ticket.key,
    )
