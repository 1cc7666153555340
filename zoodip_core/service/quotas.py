"""Quotas of usage: U-Net evaluations, engine time and images of a UTC day, and stored bytes.

A new job reserves its estimated evaluations and images, so that a client cannot queue more than its quota.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

from sqlalchemy import Connection, case, func, select

from zoodip_core.service import stored_objects, usage
from zoodip_core.service.errors import QuotaExceededError
from zoodip_core.service.jobs.states import ACTIVE, JobKind
from zoodip_core.service.tables import jobs

_MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Limits of an owner's usage; None for no limit. Settings and API keys have fields of the same names."""

    max_evaluations_per_day: int | None = None
    max_seconds_per_day: float | None = None
    max_images_per_day: int | None = None
    max_stored_mb: float | None = None

    @property
    def max_stored_bytes(self) -> int | None:
        """Limit of the stored bytes."""
        return None if self.max_stored_mb is None else int(self.max_stored_mb * _MB)

    @classmethod
    def first_of(cls, *sources: object) -> Self:
        """Return the first limit of each kind that a source sets; the sources have fields of the same names."""
        return cls(
            **{
                field.name: next(
                    (found for one in sources if (found := getattr(one, field.name)) is not None), None
                )
                for field in fields(cls)
            }
        )


NO_QUOTAS = Quotas()


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Estimated usage of a request: U-Net evaluations, images and newly stored bytes."""

    evaluations: int = 0
    images: int = 0
    stored_bytes: int = 0


def check(connection: Connection, owner: str, quotas: Quotas, new: Estimate, now: float) -> None:
    """Validate that a request stays within the quotas of its owner.

    Args:
        connection: Any connection; a creation holds the creation lock.
        owner: Who creates something.
        quotas: The limits.
        new: What the request will use.
        now: Seconds since 1970.

    Raises:
        QuotaExceededError: The request would exceed a quota. The message says when the quota resets.
    """
    if quotas == NO_QUOTAS:
        return
    _check_stored(connection, owner, quotas.max_stored_bytes, new.stored_bytes)
    if not new.evaluations:
        return
    used, held = usage.of_day(connection, owner, usage.day_of(now)), _reserved(connection, owner)
    limits = {"evaluations": quotas.max_evaluations_per_day, "images": quotas.max_images_per_day}
    for name, limit in limits.items():
        _check_count(name, limit, getattr(new, name), getattr(used, name), getattr(held, name), now)
    limit_s = quotas.max_seconds_per_day
    if limit_s is not None and used.seconds >= limit_s:
        raise _exceeded(
            f"seconds: got {used.seconds:.1f} used today; expected less than the quota of {limit_s:g} a day",
            now,
        )


def _check_count(name: str, limit: int | None, wanted: int, spent: int, held: int, now: float) -> None:
    """Validate that today's usage, the reservations of unfinished jobs and a new job stay within a limit."""
    if limit is None or not wanted or spent + held + wanted <= limit:
        return
    raise _exceeded(
        f"{name}: got {wanted} for this job; expected at most {max(0, limit - spent - held)}, the rest of the "
        f"quota of {limit} a day ({spent} used, {held} reserved for unfinished jobs)",
        now,
    )


def _check_stored(connection: Connection, owner: str, limit: int | None, new_bytes: int) -> None:
    if limit is None:
        return
    stored = stored_objects.total_bytes(connection, owner)
    if stored + max(1, new_bytes) > limit:
        raise QuotaExceededError(
            f"stored_bytes: got {stored} stored and {new_bytes} new; expected at most {limit} in total; delete "
            "generations, personalizations or concepts to free space"
        )


def _exceeded(message: str, now: float) -> QuotaExceededError:
    reset = usage.next_reset(now)
    return QuotaExceededError(
        f"{message}; the quota resets at {reset:%Y-%m-%dT%H:%M:%SZ}", retry_after_s=reset.timestamp() - now
    )


def _reserved(connection: Connection, owner: str) -> Estimate:
    """Return what the unfinished jobs of an owner will still use."""
    open_evaluations = jobs.c.estimated_evaluations - jobs.c.used_evaluations
    open_images = jobs.c.estimated_images - jobs.c.used_images
    sums = [
        func.coalesce(func.sum(case((rest > 0, rest), else_=0)), 0)
        for rest in (open_evaluations, open_images)
    ]
    is_open = (jobs.c.owner == owner, jobs.c.kind.in_(list(JobKind)), jobs.c.status.in_(ACTIVE))
    evaluations, images = connection.execute(select(*sums).where(*is_open)).one()
    return Estimate(evaluations=int(evaluations), images=int(images))
