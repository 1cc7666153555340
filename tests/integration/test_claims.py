"""Claims, leases and fencing tokens, on both databases."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.support.jobs import NOW, queue
from zoodip_core.service.database import Database
from zoodip_core.service.errors import ConflictError, LeaseLostError
from zoodip_core.service.jobs import leases, reaping, resumption, store
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import JobKind, Status, StopRequest

LEASE_S = 30.0


def _claim(database: Database, job_id: str, worker: str = "w1", now: float = NOW) -> Job | None:
    with database.write() as connection:
        return leases.claim(connection, job_id, worker, now, LEASE_S)


def _claimed(database: Database, job_id: str, worker: str = "w1", now: float = NOW) -> Job:
    job = _claim(database, job_id, worker, now)
    assert job is not None
    return job


def _reap(database: Database, now: float, max_attempts: int = 3) -> list[Job]:
    """Requeue all jobs that are running now, as if their leases had expired."""
    with database.write() as connection:
        return reaping.reap(connection, reaping.terms(connection), now, max_attempts)


def _drain_queue(url: str, worker: str) -> list[str]:
    """Claim jobs until the queue is empty; return the ids of the claimed jobs."""
    database = Database(url)
    claimed = []
    while True:
        with database.write() as connection:
            job = leases.claim_next(connection, JobKind.PERSONALIZATION, worker, NOW, LEASE_S)
        if job is None:
            with database.read() as connection:
                if leases.oldest_queued(connection, JobKind.PERSONALIZATION) is None:
                    database.close()
                    return claimed
            continue
        claimed.append(job.id)


def test_repeated_message_is_claimed_once(database: Database) -> None:
    """Of five threads with the same message, exactly one claims the job."""
    job = queue(database)
    barrier = threading.Barrier(5)

    def race(number: int) -> Job | None:
        barrier.wait()
        return _claim(database, job.id, f"w{number}")

    with ThreadPoolExecutor(5) as pool:
        claims = [claim for claim in pool.map(race, range(5)) if claim is not None]
    assert len(claims) == 1
    assert claims[0].status is Status.RUNNING
    assert claims[0].fence == 1


def test_concurrent_processes_claim_each_job_once(database: Database) -> None:
    """Four processes empty a queue of 60 jobs and claim each job exactly once."""
    ids = [queue(database, now=NOW + number).id for number in range(60)]
    with get_context("spawn").Pool(4) as pool:
        claimed = pool.starmap(
            _drain_queue,
            [(database.engine.url.render_as_string(hide_password=False), f"w{n}") for n in range(4)],
        )
    assert Counter(job_id for part in claimed for job_id in part) == Counter(ids)


def test_oldest_queued_job_is_claimed_first(database: Database) -> None:
    """`claim_next` orders by queueing time and claims only jobs of its kind."""
    queue(database, kind=JobKind.GENERATION, now=NOW - 10)
    late, early = queue(database, now=NOW + 2), queue(database, now=NOW + 1)
    order = []
    for _ in range(3):
        with database.write() as connection:
            job = leases.claim_next(connection, JobKind.PERSONALIZATION, "w", NOW, LEASE_S)
        order.append(job.id if job else None)
    assert order == [early.id, late.id, None]


def test_claim_uses_an_index(database: Database) -> None:
    """The query plan for the oldest queued job uses the index `jobs_queue` and no sort."""
    query = (
        "SELECT id FROM jobs WHERE kind = 'personalization' AND status = 'queued' "
        "ORDER BY queued_at, id LIMIT 1"
    )
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
    for number in range(200):  # new rows, so the database has no statistics about them
        queue(database, now=NOW + number)
    with database.write() as connection:
        plan = "\n".join(str(row) for row in connection.execute(text(explain + query)))
    assert "jobs_queue" in plan
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan


def test_worker_with_an_expired_lease_writes_nothing(database: Database) -> None:
    """A worker whose lease expired cannot record, finish or requeue a job that another worker claimed."""
    job = queue(database)
    expired = leases.lease_of(_claimed(database, job.id))
    later = NOW + LEASE_S + 1
    assert [reaped.id for reaped in _reap(database, later)] == [job.id]
    current = leases.lease_of(_claimed(database, job.id, "w2", later))
    for write in (
        lambda c: leases.record(c, expired, later, event=("progress", {"step": 7}), values={"step": 7}),
        lambda c: leases.finish(c, expired, Status.SUCCEEDED, later, {"result": {"concept_id": "x"}}),
        lambda c: leases.requeue(c, expired, later),
        lambda c: leases.apply_stop_request(c, expired, later),
    ):
        with pytest.raises(LeaseLostError), database.write() as connection:
            write(connection)
    with database.write() as connection:
        assert leases.heartbeat(connection, [expired, current], later, LEASE_S) == {job.id: None}
        assert leases.heartbeat(connection, [expired], later, LEASE_S) == {}
        stored = store.find(connection, job.id)
    assert (stored.status, stored.step, stored.lease_owner) == (Status.RUNNING, 0, "w2")


def test_heartbeat_renews_leases_and_returns_stop_requests(database: Database) -> None:
    """A lease that is renewed after it was seen as expired is not reaped; the heartbeat returns a cancel request."""
    job = _claimed(database, queue(database).id)
    with database.write() as connection:
        store.cancel(connection, job, NOW)
        seen = reaping.terms(connection)
        requests = leases.heartbeat(connection, [leases.lease_of(job)], NOW + 20, LEASE_S)
        assert requests == {job.id: StopRequest.CANCEL}
        assert reaping.reap(connection, seen, NOW + LEASE_S + 1, 3) == []


def test_job_fails_after_its_last_attempt_alone(database: Database) -> None:
    """A job whose worker dies in 2 shared attempts and 3 attempts alone fails with the error `worker_lost`."""
    job = queue(database)
    alone = []
    for attempt in range(5):
        alone.append(leases.runs_alone(_claimed(database, job.id, f"w{attempt}")))
        (reaped,) = _reap(database, NOW + attempt)
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
        lease = leases.lease_of(_claimed(database, job.id))
        with database.write() as connection:
            leases.record_checkpoint(connection, lease, NOW, attempt + 1, [attempt + 1])
        (reaped,) = _reap(database, NOW)
        assert (reaped.status, reaped.attempts, reaped.step) == (Status.QUEUED, 1, attempt + 1)


def test_the_same_checkpoint_keeps_the_attempts(database: Database) -> None:
    """Saving a checkpoint at the step of the previous one is no progress."""
    job = queue(database)
    for attempts in (1, 2, 3):
        lease = leases.lease_of(_claimed(database, job.id))
        with database.write() as connection:
            leases.record_checkpoint(connection, lease, NOW, 0, [0])
        (reaped,) = _reap(database, NOW)
        assert reaped.attempts == attempts


def test_a_failed_job_that_can_be_retried_is_resumed(database: Database) -> None:
    """It continues at its checkpoint without its error, and alone if its worker kept dying."""
    job = queue(database)
    lease = leases.lease_of(_claimed(database, job.id))
    with database.write() as connection:
        leases.record_checkpoint(connection, lease, NOW, 40, [40])
        error = {"code": "storage_failed", "message": "", "retryable": True}
        failed = leases.finish(connection, lease, Status.FAILED, NOW, {"error": error})
        resumed = resumption.resume(connection, failed, NOW + 9)
    assert (resumed.status, resumed.step, resumed.attempts) == (Status.QUEUED, 40, 0)
    assert (resumed.error, resumed.finished_at, resumed.queued_at) == (None, None, NOW + 9)
    for _ in range(5):
        _claimed(database, job.id)
        (lost,) = _reap(database, NOW)
    assert lost.status is Status.FAILED
    with database.write() as connection:
        resumption.resume(connection, lost, NOW)
    assert leases.runs_alone(_claimed(database, job.id))


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
    lease = leases.lease_of(_claimed(database, queue(database).id))
    error = {"code": "storage_failed", "message": "", "retryable": True}
    with database.write() as connection:
        failed = leases.finish(connection, lease, Status.FAILED, NOW, {"error": error, **changes})
    with pytest.raises(ConflictError, match=reason), database.write() as connection:
        resumption.resume(connection, failed, NOW)


def test_requeue_keeps_attempts_and_checkpoint(database: Database) -> None:
    """A requeued job has the step of its checkpoint and its previous number of attempts."""
    job = queue(database)
    lease = leases.lease_of(_claimed(database, job.id))
    with database.write() as connection:
        leases.record_checkpoint(connection, lease, NOW, 40, [40])
        leases.record(connection, lease, NOW, values={"step": 57})
        requeued = leases.requeue(connection, lease, NOW)
    assert (requeued.status, requeued.step, requeued.attempts) == (Status.QUEUED, 40, 0)
    assert requeued.lease_owner is None


@pytest.mark.parametrize(("stop_request", "status"), [("cancel", Status.CANCELLED), ("pause", Status.PAUSED)])
def test_requeue_applies_stop_requests(database: Database, stop_request: str, status: Status) -> None:
    """Requeueing a job with a pending stop request cancels or pauses it."""
    job = _claimed(database, queue(database).id)
    with database.write() as connection:
        (store.cancel if stop_request == "cancel" else store.pause)(connection, job, NOW)
        assert leases.requeue(connection, leases.lease_of(job), NOW).status is status


def test_latest_stop_request_wins(database: Database) -> None:
    """After a pause request, a cancel request cancels the job and a resume lets it run."""
    cancelled, resumed, paused = (_claimed(database, queue(database).id) for _ in range(3))
    with database.write() as connection:
        for job in (cancelled, resumed, paused):
            store.pause(connection, job, NOW)
        store.cancel(connection, cancelled, NOW)
        resumption.resume(connection, resumed, NOW)
        stopped = [
            leases.apply_stop_request(connection, leases.lease_of(job), NOW)
            for job in (cancelled, resumed, paused)
        ]
        running = store.find(connection, resumed.id)
    assert [job and job.status for job in stopped] == [Status.CANCELLED, None, Status.PAUSED]
    assert running.status is Status.RUNNING


def test_pausing_does_not_count_as_an_attempt(database: Database) -> None:
    """Repeated pauses and resumes leave the number of attempts at 0."""
    job_id = queue(database).id
    for _ in range(4):
        job = _claimed(database, job_id)
        with database.write() as connection:
            store.pause(connection, job, NOW)
            paused = leases.apply_stop_request(connection, leases.lease_of(job), NOW)
            assert paused is not None
            resumption.resume(connection, paused, NOW)
    assert paused.attempts == 0


@pytest.mark.parametrize(("stop_request", "status"), [("cancel", Status.CANCELLED), ("pause", Status.PAUSED)])
def test_reaping_applies_stop_requests(database: Database, stop_request: str, status: Status) -> None:
    """A stop request is applied even if the worker died before it applied it."""
    job = _claimed(database, queue(database).id)
    with database.write() as connection:
        (store.cancel if stop_request == "cancel" else store.pause)(connection, job, NOW)
    (reaped,) = _reap(database, NOW + LEASE_S + 1)
    assert reaped.status is status
    assert reaped.stop_request is None
