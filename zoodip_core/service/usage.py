"""Usage ledger: what the jobs of an owner have used, by API key and UTC day.

A job's row holds what the job has used in all its attempts. A worker writes this total under its lease, together with
its progress. The same transaction adds the difference to the day. A repeated write therefore adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, case, delete, func, literal, select, update

from zoodip_core.service.database import dialect_insert
from zoodip_core.service.jobs.records import Lease
from zoodip_core.service.tables import jobs, stored_objects, usage

_EPOCH = date(1970, 1, 1)
_EXPIRED = 0  # day of the row that holds the sum of all expired days
_COUNTED = ("evaluations", "seconds", "images")
_KEY = [usage.c.owner, usage.c.key_id, usage.c.day]


@dataclass(frozen=True, slots=True)
class Usage:
    """U-Net evaluations, seconds of engine time, and images."""

    evaluations: int = 0
    seconds: float = 0.0
    images: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyUsage:
    """Usage of one key on one UTC day. `stored_bytes` is the largest sample of the day."""

    owner: str
    key_id: str
    day: int
    evaluations: int
    seconds: float
    images: int
    stored_bytes: int


def day_of(now: float) -> int:
    """Return the UTC day of a time, in days since 1970."""
    return int(now // 86_400)


def number_of(day: date) -> int:
    """Return a date in days since 1970."""
    return (day - _EPOCH).days


def date_of(day: int) -> date:
    """Return the date of a day that is given in days since 1970."""
    return _EPOCH + timedelta(days=day)


def next_reset(now: float) -> datetime:
    """Return the beginning of the next UTC day."""
    return datetime.fromtimestamp((day_of(now) + 1) * 86_400, UTC)


def record(connection: Connection, lease: Lease, used: Usage, now: float) -> None:
    """Write what a job has used in all its attempts, and add the difference to the current day.

    Does nothing once another worker has claimed the job. The write of progress in the same transaction fails then.

    Args:
        connection: Write transaction.
        lease: The worker's lease of the job.
        used: Total of the job; never less than its previous total.
        now: Seconds since 1970.
    """
    is_latest_claim = (jobs.c.id == lease.job_id, jobs.c.fence == lease.fence)
    before = (jobs.c.used_evaluations, jobs.c.used_seconds, jobs.c.used_images)
    query = select(jobs.c.owner, jobs.c.key_id, *before).where(*is_latest_claim).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        return
    owner, key_id, evaluations, seconds, images = row
    added = Usage(used.evaluations - evaluations, used.seconds - seconds, used.images - images)
    if added == Usage():
        return
    total = {f"used_{name}": getattr(used, name) for name in _COUNTED}
    connection.execute(update(jobs).where(jobs.c.id == lease.job_id).values(**total))
    values = {name: getattr(added, name) for name in _COUNTED}
    new = dialect_insert(connection, usage).values(
        owner=owner, key_id=key_id, day=day_of(now), stored_bytes=0, **values
    )
    connection.execute(_added(new))


def list_days(connection: Connection, owner: str, first: int, last: int) -> list[DailyUsage]:
    """Return the usage of an owner's keys from day `first` to day `last`, newest day first, then by key."""
    query = select(usage).where(usage.c.owner == owner, usage.c.day.between(first, last))
    rows = connection.execute(query.order_by(usage.c.day.desc(), usage.c.key_id)).mappings()
    return [DailyUsage(**row) for row in rows]


def of_day(connection: Connection, owner: str, day: int) -> Usage:
    """Return the usage of all keys of an owner on one day."""
    found = list_days(connection, owner, day, day)
    return Usage(
        sum(one.evaluations for one in found),
        sum(one.seconds for one in found),
        sum(one.images for one in found),
    )


def totals(connection: Connection) -> dict[str, Usage]:
    """Return the usage of each owner since the first job."""
    sums = [func.sum(usage.c[name]) for name in _COUNTED]
    rows = connection.execute(select(usage.c.owner, *sums).group_by(usage.c.owner))
    return {
        owner: Usage(int(evaluations), float(seconds), int(images))
        for owner, evaluations, seconds, images in rows
    }


def merge_expired(connection: Connection, before: int) -> None:
    """Merge the days before day `before` into one row for each key, so that totals stay exact."""
    expired = (usage.c.day > _EXPIRED, usage.c.day < before)
    sums = [func.sum(usage.c[name]) for name in _COUNTED]
    old = select(usage.c.owner, usage.c.key_id, literal(_EXPIRED), *sums, literal(0)).where(*expired)
    grouped = old.group_by(usage.c.owner, usage.c.key_id).order_by(usage.c.owner, usage.c.key_id)
    columns = [column.name for column in usage.columns]
    connection.execute(_added(dialect_insert(connection, usage).from_select(columns, grouped)))
    connection.execute(delete(usage).where(*expired))


def sample_stored_bytes(connection: Connection, now: float) -> None:
    """Record how many bytes each key's objects take, unless a sample of the same day is larger."""
    day, size = literal(day_of(now)), func.sum(stored_objects.c.bytes)
    keys = (stored_objects.c.owner, stored_objects.c.key_id)
    sizes = select(*keys, day, literal(0), literal(0.0), literal(0), size).where(stored_objects.c.bytes > 0)
    grouped = sizes.group_by(*keys).order_by(*keys)
    new = dialect_insert(connection, usage).from_select([column.name for column in usage.columns], grouped)
    largest = case(
        (new.excluded.stored_bytes > usage.c.stored_bytes, new.excluded.stored_bytes),
        else_=usage.c.stored_bytes,
    )
    connection.execute(new.on_conflict_do_update(index_elements=_KEY, set_={usage.c.stored_bytes: largest}))


def _added(new: Any) -> Any:
    """Return an insertion that adds its counts to an existing row."""
    sums = {usage.c[name]: usage.c[name] + new.excluded[name] for name in _COUNTED}
    return new.on_conflict_do_update(index_elements=_KEY, set_=sums)
