"""Attempts at a job: which losses count, when it runs alone or fails, and how a failed one is resumed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.support.jobs import NOW, claimed, queue, reap
from zoodip_core.service.database import Database
from zoodip_core.service.errors import ConflictError
from zoodip_core.service.jobs import leases, resumption, store
from zoodip_core.service.jobs.states import Status


def test_job_fails_after_its_last_attempt_alone(database: Database) -> None:
    """A job whose worker dies in 2 shared attempts and 3 attempts alone fails with the error `worker_lost`."""
    job = queue(database)
    alone = []
    for attempt in range(5):
        alone.append(leases.runs_alone(claimed(database, job.id, f"w{attempt}")))
        (reaped,) = reap(database, NOW + attempt)
    assert alone == [False, False, True, True, True]
    assert reaped.status is Status.FAILED
    assert reaped.error == {
        "code": "worker_lost",
        "message": "the worker died in each of 5 attempts; in the last 3 it ran no other job",
        "retryable": True,
    }
    assert reaped.finished_at == NOW + 4


def test_an_advanced_checkpoint_resets_the_attempts(database: Database) -> None:
    """A job that saves a later checkpoint in each attempt never fails, however often its worker dies."""
    job = queue(database)
    for attempt in range(10):
        lease = leases.lease_of(claimed(database, job.id))
        with database.write() as connection:
            leases.record_checkpoint(connection, lease, NOW, attempt + 1, [attempt + 1])
        (reaped,) = reap(database, NOW)
        assert (reaped.status, reaped.attempts, reaped.step) == (Status.QUEUED, 1, attempt + 1)


def test_the_same_checkpoint_keeps_the_attempts(database: Database) -> None:
    """Saving a checkpoint at the step of the previous one is no progress."""
    job = queue(database)
    for attempts in (1, 2, 3):
        lease = leases.lease_of(claimed(database, job.id))
        with database.write() as connection:
            leases.record_checkpoint(connection, lease, NOW, 0, [0])
        (reaped,) = reap(database, NOW)
        assert reaped.attempts == attempts


def test_a_failed_job_that_can_be_retried_is_resumed(database: Database) -> None:
    """It continues at its checkpoint without its error, and alone if its worker kept dying."""
    job = queue(database)
    lease = leases.lease_of(claimed(database, job.id))
    with database.write() as connection:
        leases.record_checkpoint(connection, lease, NOW, 40, [40])
        error = {"code": "storage_failed", "message": "", "retryable": True}
        failed = leases.finish(connection, lease, Status.FAILED, NOW, {"error": error})
        resumed = resumption.resume(connection, failed, NOW + 9)
    assert (resumed.status, resumed.step, resumed.attempts) == (Status.QUEUED, 40, 0)
    assert (resumed.error, resumed.finished_at, resumed.queued_at) == (None, None, NOW + 9)
    for _ in range(5):
        claimed(database, job.id)
        (lost,) = reap(database, NOW)
    assert lost.status is Status.FAILED
    with database.write() as connection:
        resumption.resume(connection, lost, NOW)
    assert leases.runs_alone(claimed(database, job.id))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"error": {"code": "loss_not_finite", "message": "", "retryable": False}}, "loss_not_finite"),
        ({"purged_at": NOW}, "its data was deleted"),
    ],
)
def test_a_failed_job_that_cannot_continue_is_not_resumed(
    database: Database, changes: dict[str, Any], reason: str
) -> None:
    """After an error that would repeat, or without its photos, the job stays failed; the message says why."""
    lease = leases.lease_of(claimed(database, queue(database).id))
    error = {"code": "storage_failed", "message": "", "retryable": True}
    with database.write() as connection:
        failed = leases.finish(connection, lease, Status.FAILED, NOW, {"error": error, **changes})
    with pytest.raises(ConflictError, match=reason), database.write() as connection:
        resumption.resume(connection, failed, NOW)


def test_requeue_keeps_attempts_and_checkpoint(database: Database) -> None:
    """A requeued job has the step of its checkpoint and its previous number of attempts."""
    job = queue(database)
    lease = leases.lease_of(claimed(database, job.id))
    with database.write() as connection:
        leases.record_checkpoint(connection, lease, NOW, 40, [40])
        leases.record(connection, lease, NOW, values={"step": 57})
        requeued = leases.requeue(connection, lease, NOW)
    assert (requeued.status, requeued.step, requeued.attempts) == (Status.QUEUED, 40, 0)
    assert requeued.lease_owner is None


def test_pausing_does_not_count_as_an_attempt(database: Database) -> None:
    """Repeated pauses and resumes leave the number of attempts at 0."""
    job_id = queue(database).id
    for _ in range(4):
        job = claimed(database, job_id)
        with database.write() as connection:
            store.pause(connection, job, NOW)
            paused = leases.apply_stop_request(connection, leases.lease_of(job), NOW)
            assert paused is not None
            resumption.resume(connection, paused, NOW)
    assert paused.attempts == 0
