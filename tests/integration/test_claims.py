"""Claims, leases and fences, on both databases."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import pytest
from sqlalchemy import text

from tests.integration.support.jobs import NOW, queue
from zoodip_core.service.database import Database
from zoodip_core.service.errors import LeaseLostError
from zoodip_core.service.jobs import leases, store
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


def _drain_queue(url: str, worker: str) -> list[str]:
    """Claim until nothing is left; what this worker got."""
    database = Database(url)
    mine = []
    while True:
        with database.write() as connection:
            job = leases.claim_next(connection, JobKind.PERSONALIZATION, worker, NOW, LEASE_S)
        if job is None:
            with database.read() as connection:
                if leases.oldest_queued(connection, JobKind.PERSONALIZATION) is None:
                    database.close()
                    return mine
            continue
        mine.append(job.id)


def test_a_message_delivered_five_times_is_claimed_once(database: Database) -> None:
    """Five threads that hold the same wake-up: one runs the job."""
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


def test_processes_that_race_for_a_queue_share_it_without_overlap(database: Database) -> None:
    """Four processes empty a queue of 60: every job is claimed exactly once."""
    ids = [queue(database, now=NOW + number).id for number in range(60)]
    with get_context("spawn").Pool(4) as pool:
        got = pool.starmap(
            _drain_queue,
            [(database.engine.url.render_as_string(hide_password=False), f"w{n}") for n in range(4)],
        )
    assert Counter(job_id for part in got for job_id in part) == Counter(ids)


def test_the_longest_waiting_job_comes_first(database: Database) -> None:
    """claim_next follows the time of queueing and stays within its kind."""
    queue(database, kind=JobKind.GENERATION, now=NOW - 10)
    late, early = queue(database, now=NOW + 2), queue(database, now=NOW + 1)
    order = []
    for _ in range(3):
        with database.write() as connection:
            job = leases.claim_next(connection, JobKind.PERSONALIZATION, "w", NOW, LEASE_S)
        order.append(job.id if job else None)
    assert order == [early.id, late.id, None]


def test_the_claim_walks_an_index_however_long_the_queue(database: Database) -> None:
    """The plan of the oldest-queued query is a search in jobs_queue without a sort."""
    query = (
        "SELECT id FROM jobs WHERE kind = 'personalization' AND status = 'queued' "
        "ORDER BY queued_at, id LIMIT 1"
    )
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
    for number in range(200):  # of which the database has no statistics yet
        queue(database, now=NOW + number)
    with database.write() as connection:
        plan = "\n".join(str(row) for row in connection.execute(text(explain + query)))
    assert "jobs_queue" in plan
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan


def test_a_zombie_writes_nothing(database: Database) -> None:
    """A worker that slept past its lease cannot record, finish or give back what another holds."""
    job = queue(database)
    zombie = leases.lease_of(_claimed(database, job.id))
    later = NOW + LEASE_S + 1
    with database.write() as connection:
        assert [reaped.id for reaped in leases.reap(connection, later, 3)] == [job.id]
    heir = leases.lease_of(_claimed(database, job.id, "w2", later))
    for write in (
        lambda c: leases.record(c, zombie, later, event=("progress", {"step": 7}), values={"step": 7}),
        lambda c: leases.finish(c, zombie, Status.SUCCEEDED, later, {"result": {"concept_id": "x"}}),
        lambda c: leases.requeue(c, zombie, later),
        lambda c: leases.apply_stop_request(c, zombie, later),
    ):
        with pytest.raises(LeaseLostError), database.write() as connection:
            write(connection)
    with database.write() as connection:
        assert leases.heartbeat(connection, [zombie, heir], later, LEASE_S) == {job.id: None}
        assert leases.heartbeat(connection, [zombie], later, LEASE_S) == {}
        stored = store.find(connection, job.id)
    assert (stored.status, stored.step, stored.lease_owner) == (Status.RUNNING, 0, "w2")


def test_a_heartbeat_keeps_a_lease_and_brings_the_wish(database: Database) -> None:
    """An extended lease is not reaped; a cancel shows in the answer."""
    job = _claimed(database, queue(database).id)
    with database.write() as connection:
        store.cancel(connection, job, NOW)
        answer = leases.heartbeat(connection, [leases.lease_of(job)], NOW + 20, LEASE_S)
        assert answer == {job.id: StopRequest.CANCEL}
        assert leases.reap(connection, NOW + LEASE_S + 1, 3) == []


def test_attempts_are_capped_with_the_reason(database: Database) -> None:
    """A job whose workers die each time fails with a typed, retryable error after the last attempt."""
    job = queue(database)
    now = NOW
    for attempt in range(3):
        _claimed(database, job.id, f"w{attempt}", now)
        now += LEASE_S + 1
        with database.write() as connection:
            (reaped,) = leases.reap(connection, now, 3)
    assert reaped.status is Status.FAILED
    assert reaped.error == {
        "code": "worker_lost",
        "message": "the worker died in each of 3 attempts",
        "retryable": True,
    }
    assert reaped.finished_at == now


def test_a_drain_is_no_attempt_and_keeps_the_checkpoint(database: Database) -> None:
    """A job that is given back waits at its checkpoint's step, with its attempts as before."""
    job = queue(database)
    lease = leases.lease_of(_claimed(database, job.id))
    with database.write() as connection:
        leases.record(connection, lease, NOW, values={"step": 40, "checkpoint_step": 40, "checkpoints": [40]})
        leases.record(connection, lease, NOW, values={"step": 57})
        back = leases.requeue(connection, lease, NOW)
    assert (back.status, back.step, back.attempts) == (Status.QUEUED, 40, 0)
    assert back.lease_owner is None


@pytest.mark.parametrize(("stop_request", "status"), [("cancel", Status.CANCELLED), ("pause", Status.PAUSED)])
def test_a_drain_fulfils_the_wish_of_its_jobs(database: Database, stop_request: str, status: Status) -> None:
    """What a client asked for is not lost when the worker gives the job back before it obeyed."""
    job = _claimed(database, queue(database).id)
    with database.write() as connection:
        (store.cancel if stop_request == "cancel" else store.pause)(connection, job, NOW)
        assert leases.requeue(connection, leases.lease_of(job), NOW).status is status


def test_the_last_wish_counts(database: Database) -> None:
    """A worker that heard `pause` leaves the job as its row says then: cancelled, or running on after a resume."""
    cancelled, resumed, paused = (_claimed(database, queue(database).id) for _ in range(3))
    with database.write() as connection:
        for job in (cancelled, resumed, paused):
            store.pause(connection, job, NOW)
        store.cancel(connection, cancelled, NOW)
        store.resume(connection, resumed, NOW)
        left = [
            leases.apply_stop_request(connection, leases.lease_of(job), NOW)
            for job in (cancelled, resumed, paused)
        ]
        goes_on = store.find(connection, resumed.id)
    assert [job and job.status for job in left] == [Status.CANCELLED, None, Status.PAUSED]
    assert goes_on.status is Status.RUNNING


def test_a_pause_is_no_attempt(database: Database) -> None:
    """However often a client pauses and resumes, no start of those counts as a worker that died."""
    job_id = queue(database).id
    for _ in range(4):
        job = _claimed(database, job_id)
        with database.write() as connection:
            store.pause(connection, job, NOW)
            left = leases.apply_stop_request(connection, leases.lease_of(job), NOW)
            assert left is not None
            store.resume(connection, left, NOW)
    assert left.attempts == 0


@pytest.mark.parametrize(("stop_request", "status"), [("cancel", Status.CANCELLED), ("pause", Status.PAUSED)])
def test_the_reaper_fulfils_the_wish_of_a_dead_workers_job(
    database: Database, stop_request: str, status: Status
) -> None:
    """What a client asked for happens even if the worker died before it obeyed."""
    job = _claimed(database, queue(database).id)
    with database.write() as connection:
        (store.cancel if stop_request == "cancel" else store.pause)(connection, job, NOW)
        (reaped,) = leases.reap(connection, NOW + LEASE_S + 1, 3)
    assert reaped.status is status
    assert reaped.stop_request is None
