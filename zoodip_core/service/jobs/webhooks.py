"""Queue of webhook deliveries in the database, with retries. Follows the Standard Webhooks specification."""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, insert, select, tuple_, update

from zoodip_core.service.ids import new_id
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.tables import disabled_webhooks, webhook_deliveries

# Retry schedule of the Standard Webhooks specification: about one day in total.
RETRY_AFTER_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)
GONE = 410
Receiver = tuple[str, str]
_CLAIM_S = 300.0  # a claimed delivery becomes due again after this time; DNS lookups can also be slow


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

    @property
    def receiver(self) -> Receiver:
        """Owner and URL: owners that use the same URL do not wait for each other."""
        return self.owner, self.url


def enqueue(connection: Connection, job: Job, now: float) -> None:
    """Queue the delivery for an ended job, if the job has a webhook and its URL is not disabled."""
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
    """Return whether the URL has answered 410 Gone."""
    query = select(disabled_webhooks.c.url).where(
        disabled_webhooks.c.owner == owner, disabled_webhooks.c.url == url
    )
    return connection.execute(query).first() is not None


def claim_due(
    connection: Connection,
    now: float,
    *,
    receiver: Receiver | None = None,
    excluded_receivers: Collection[Receiver] = (),
    excluded_owners: Collection[str] = (),
) -> Delivery | None:
    """Claim the delivery that has been due longest. Concurrent workers claim different deliveries.

    Args:
        connection: Write transaction.
        now: Seconds since 1970.
        receiver: Only deliveries to this receiver.
        excluded_receivers: No deliveries to these receivers.
        excluded_owners: No deliveries of these owners.

    Returns:
        The delivery, or None if none is due.
    """
    table = webhook_deliveries
    columns = tuple_(table.c.owner, table.c.url)
    due = select(table.c.id).where(table.c.due_at <= now, table.c.owner.not_in(list(excluded_owners)))
    if excluded_receivers:
        due = due.where(columns.not_in(list(excluded_receivers)))
    if receiver is not None:
        due = due.where(columns == receiver)
    first = due.order_by(table.c.due_at).limit(1).with_for_update(skip_locked=True)
    delivery_id = connection.execute(first).scalar()
    if delivery_id is None:
        return None
    row = connection.execute(
        update(table)
        .where(table.c.id == delivery_id)
        .values(due_at=now + _CLAIM_S, attempts=table.c.attempts + 1)
        .returning(*(table.c[name] for name in Delivery.__dataclass_fields__))
    ).mappings()
    return Delivery(**row.one())


def record_result(connection: Connection, delivery: Delivery, status: int | None, now: float) -> None:
    """Record the result of a delivery: delivered, retry later, or abandoned.

    Args:
        connection: Write transaction.
        delivery: The claimed delivery.
        status: HTTP status of the response; None if there was no response. 410 disables the URL.
        now: Seconds since 1970.
    """
    values: dict[str, object] = {"last_status": status, "due_at": None}
    if status is not None and 200 <= status < 300:
        values["delivered_at"] = now
    elif status == GONE:
        _disable(connection, delivery, now)
    elif delivery.attempts <= len(RETRY_AFTER_S):
        wait_s = RETRY_AFTER_S[delivery.attempts - 1]
        values["due_at"] = now + wait_s * random.uniform(0.8, 1.2)  # noqa: S311 (jitter needs no secure randomness)
    connection.execute(
        update(webhook_deliveries).where(webhook_deliveries.c.id == delivery.id).values(**values)
    )


def abandon(connection: Connection, delivery: Delivery) -> None:
    """Make no further attempt at a delivery."""
    connection.execute(
        update(webhook_deliveries).where(webhook_deliveries.c.id == delivery.id).values(due_at=None)
    )


def _disable(connection: Connection, delivery: Delivery, now: float) -> None:
    if not is_disabled(connection, delivery.owner, delivery.url):
        connection.execute(
            insert(disabled_webhooks).values(owner=delivery.owner, url=delivery.url, disabled_at=now)
        )
    table = webhook_deliveries
    same = (table.c.owner == delivery.owner, table.c.url == delivery.url)
    connection.execute(update(table).where(*same).values(due_at=None))
