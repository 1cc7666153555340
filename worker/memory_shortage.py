"""Shortage of memory that several personalizations share: one of them waits in the queue until another one ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zoodip_core.errors import OutOfMemoryError, ZoodipError
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import JobKind

WAITS_FOR_MEMORY: tuple[str, dict[str, Any]] = (
    "warning",
    {
        "code": OutOfMemoryError.code,
        "message": "the personalizations of the worker do not fit into memory together; this one waits",
    },
)
"""Event of a personalization that is requeued."""


class PersonalizationLimit:
    """Most personalizations at once: `slots`, and fewer from when memory runs out until one of them leaves.

    Without the lower limit a worker would claim a job again right after it was requeued for lack of memory.
    """

    def __init__(self, slots: int) -> None:
        self._slots = self._limit = slots

    def allows_another(self, running: int) -> bool:
        """Return whether the worker may start one more."""
        return running < self._limit

    def lower(self, running: int) -> None:
        """Record that no more than `running` personalizations fit; a single one is always tried."""
        self._limit = max(1, running)

    def reset(self) -> None:
        """Record that a personalization has left the worker, so that its memory is free."""
        self._limit = self._slots


def can_wait_for_memory(job: Job, error: ZoodipError, running: Iterable[Job]) -> bool:
    """Return whether the error of a personalization is a lack of memory that other personalizations hold.

    Args:
        job: the job that failed.
        error: its error.
        running: personalizations of the worker.
    """
    lacks_memory = isinstance(error, OutOfMemoryError) and job.kind == JobKind.PERSONALIZATION
    return lacks_memory and any(other.id != job.id for other in running)
