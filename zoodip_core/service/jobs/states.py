"""The one table of legal transitions of a job."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobKind(StrEnum):
    """What a job does; also the name of its queue."""

    PERSONALIZATION = "personalization"
    GENERATION = "generation"


class StopRequest(StrEnum):
    """What a client asked of a running job; its worker obeys between two steps."""

    CANCEL = "cancel"
    PAUSE = "pause"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.PAUSED, Status.CANCELLED}),
    Status.RUNNING: frozenset(
        {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.PAUSED, Status.QUEUED}
    ),
    Status.PAUSED: frozenset({Status.QUEUED, Status.CANCELLED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}

ENDED = frozenset(status for status, targets in TRANSITIONS.items() if not targets)
ACTIVE = frozenset(Status) - ENDED


def is_legal(source: Status, target: Status) -> bool:
    """Whether a job may go from `source` to `target`."""
    return target in TRANSITIONS[source]
