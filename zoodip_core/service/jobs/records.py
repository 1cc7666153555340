"""Immutable records of jobs, leases and events, as read from the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from zoodip_core.service.jobs.states import ENDED, JobKind, Status, StopRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A personalization or a generation: its request, state, progress and lease.

    `attempts` counts starts since the last checkpoint. A start that ends with a pause or a drain is not counted.
    `key_id` is the API key that created it, or empty. The `used_` fields count all attempts.
    """

    id: str
    kind: JobKind
    owner: str
    status: Status
    base_model: str
    token: str | None
    request: dict[str, Any]
    metadata: dict[str, str]
    webhook: str | None
    trace: str | None
    total_steps: int
    step: int
    checkpoint_step: int
    checkpoints: list[int]
    it_per_s: float | None
    eta_s: float | None
    fixed_loss: float | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    stop_request: StopRequest | None
    attempts: int
    fence: int
    lease_owner: str | None
    lease_expires_at: float | None
    queued_at: float
    created_at: float
    started_at: float | None
    finished_at: float | None
    purged_at: float | None
    key_id: str
    estimated_evaluations: int
    estimated_images: int
    used_evaluations: int
    used_seconds: float
    used_images: int

    @property
    def ended(self) -> bool:
        """Return whether the job has reached a final state."""
        return self.status in ENDED


# A tuple, because each poll creates one: creating a frozen dataclass with this many fields takes ten times as long.
class JobSnapshot(NamedTuple):
    """A job as its owner sees it. `queue_position` counts the jobs of its kind ahead of it, if it is queued."""

    id: str
    kind: JobKind
    owner: str
    status: Status
    base_model: str
    token: str | None
    request: dict[str, Any]
    metadata: dict[str, str]
    total_steps: int
    step: int
    checkpoints: list[int]
    it_per_s: float | None
    eta_s: float | None
    fixed_loss: float | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    queue_position: int | None

    @property
    def ended(self) -> bool:
        """Return whether the job has reached a final state."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A validated job to create. Its request has all defaults filled in."""

    id: str
    kind: JobKind
    owner: str
    base_model: str
    request: dict[str, Any]
    total_steps: int
    token: str | None = None
    metadata: dict[str, str]
    webhook: str | None = None
    trace: str | None = None
    key_id: str = ""
    estimated_evaluations: int = 0
    estimated_images: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A worker's right to write to one job, with the fencing token of its claim."""

    job_id: str
    owner: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerm:
    """A lease as last granted or renewed. The next renewal gives another `expires_at`."""

    lease: Lease
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An entry of a job's event log, as watchers receive it."""

    id: int
    job_id: str
    type: str
    data: dict[str, Any]
    created_at: float
