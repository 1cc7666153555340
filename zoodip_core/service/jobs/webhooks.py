"""Deliveries that wait in the database until their receiver took them (Standard Webhooks)."""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, insert, select, update

from zoodip_core.service.ids import new_id
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.tables import disabled_webhooks, webhook_deliveries

# The schedule of the Standard Webhooks specification: about a day in all.
RETRY_AFTER_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)
GONE = 410
_IN_HAND_S = 300.0  # a delivery under way is not due again for this long: a name's look-up may be slow, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one URL."""

    id: str
    job_id: str
    owner: str
    url: str
    payload: str
    attempts: int
    created_at: float


def announce(connection: Connection, job: Job, now: float) -> None:
    """Note that the end of a job is to be told, if its client wanted that and the URL is not disabled."""
    if job.webhook is None or is_disabled(connection, job.owner, job.webhook):
        return
    data = {
        "id": job.id,
        "status": job.status,
        "token": job.token,
        "result": job.result,
        "error": job.error,
        "metadata": job.metadata,
    }
    timestamp = datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
    payload = json.dumps({"type": f"{job.kind}.{job.status}", "timestamp": timestamp, "data": data})
    connection.execute(
        insert(webhook_deliveries).values(
            id=new_id("msg", now),
            job_id=job.id,
            owner=job.owner,
            url=job.webhook,
            payload=payload,
            due_at=now,
            created_at=now,
        )
    )


def is_disabled(connection: Connection, owner: str, url: str) -> bool:
    """Whether the URL once answered that it is gone."""
    query = select(disabled_webhooks.c.url).where(
        disabled_webhooks.c.owner == owner, disabled_webhooks.c.url == url
    )
    return connection.execute(query).first() is not None


def take_due(
    connection: Connection, now: float, *, url: str | None = None, besides: Collection[str] = ()
) -> Delivery | None:
    """The delivery to make now that waits longest; racing workers get others.

    Args:
        connection: in a transaction that writes.
        now: seconds since 1970.
        url: whose messages are wanted alone.
        besides: URLs whose messages are left alone.
    """
    table = webhook_deliveries
    due = select(table.c.id).where(table.c.due_at <= now, table.c.url.not_in(list(besides)))
    if url is not None:
        due = due.where(table.c.url == url)
    first = due.order_by(table.c.due_at).limit(1).with_for_update(skip_locked=True)
    delivery_id = connection.execute(first).scalar()
    if delivery_id is None:
        return None
    row = connection.execute(
        update(table)
        .where(table.c.id == delivery_id)
        .values(due_at=now + _IN_HAND_S, attempts=table.c.attempts + 1)
        .returning(*(table.c[name] for name in Delivery.__dataclass_fields__))
    ).mappings()
    return Delivery(**row.one())


def settle(connection: Connection, delivery: Delivery, status: int | None, now: float) -> None:
    """Note the receiver's answer (None: none came): done, to be tried again, or never again."""
    values: dict[str, object] = {"last_status": status, "due_at": None}
    if status is not None and 200 <= status < 300:
        values["delivered_at"] = now
    elif status == GONE:
        _disable(connection, delivery, now)
    elif delivery.attempts <= len(RETRY_AFTER_S):
        wait_s = RETRY_AFTER_S[delivery.attempts - 1]
        values["due_at"] = now + wait_s * random.uniform(0.8, 1.2)  # noqa: S311 (jitter is no secret)
    connection.execute(
        update(webhook_deliveries).where(webhook_deliveries.c.id == delivery.id).values(**values)
    )


def _disable(connection: Connection, delivery: Delivery, now: float) -> None:
    if not is_disabled(connection, delivery.owner, delivery.url):
        connection.execute(
            insert(disabled_webhooks).values(owner=delivery.owner, url=delivery.url, disabled_at=now)
        )
    table = webhook_deliveries
    same = (table.c.owner == delivery.owner, table.c.url == delivery.url)
    connection.execute(update(table).where(*same).values(due_at=None))
