"""States of a job and the transitions between them."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobKind(StrEnum):
    """Kind of a job; also the name of its queue."""

    PERSONALIZATION = "personalization"
    GENERATION = "generation"


class StopRequest(StrEnum):
    """A client's request to stop a running job. The worker applies it between two steps."""

    CANCEL = "cancel"
    PAUSE = "pause"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.PAUSED, Status.CANCELLED}),
    Status.RUNNING: frozenset(
        {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.PAUSED, Status.QUEUED}
    ),
    Status.PAUSED: frozenset({Status.QUEUED, Status.CANCELLED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset({Status.QUEUED}),  # resumed, if its error is retryable
    Status.CANCELLED: frozenset(),
}

SHARED_ATTEMPTS = 2
"""Attempts of a job in which its worker may run other jobs, too. In later attempts it runs only this job."""

ENDED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})
ACTIVE = frozenset(Status) - ENDED


def is_legal(source: Status, target: Status) -> bool:
    """Return whether a job can move from `source` to `target`."""
    return target in TRANSITIONS[source]
