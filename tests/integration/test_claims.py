"""Claims, leases and fencing tokens, on both databases."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import pytest
from sqlalchemy import text

from tests.integration.support.jobs import LEASE_S, NOW, claim, claimed, queue, reap
from zoodip_core.service.database import Database
from zoodip_core.service.errors import LeaseLostError
from zoodip_core.service.jobs import leases, reaping, resumption, store
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import JobKind, Status, StopRequest


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
        return claim(database, job.id, f"w{number}")

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
    expired = leases.lease_of(claimed(database, job.id))
    later = NOW + LEASE_S + 1
    assert [reaped.id for reaped in reap(database, later)] == [job.id]
    current = leases.lease_of(claimed(database, job.id, "w2", later))
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
    job = claimed(database, queue(database).id)
    with database.write() as connection:
        store.cancel(connection, job, NOW)
        seen = reaping.terms(connection)
        requests = leases.heartbeat(connection, [leases.lease_of(job)], NOW + 20, LEASE_S)
        assert requests == {job.id: StopRequest.CANCEL}
        assert reaping.reap(connection, seen, NOW + LEASE_S + 1, 3) == []


@pytest.mark.parametrize(("stop_request", "status"), [("cancel", Status.CANCELLED), ("pause", Status.PAUSED)])
def test_requeue_applies_stop_requests(database: Database, stop_request: str, status: Status) -> None:
    """Requeueing a job with a pending stop request cancels or pauses it."""
    job = claimed(database, queue(database).id)
    with database.write() as connection:
        (store.cancel if stop_request == "cancel" else store.pause)(connection, job, NOW)
        assert leases.requeue(connection, leases.lease_of(job), NOW).status is status


def test_latest_stop_request_wins(database: Database) -> None:
    """After a pause request, a cancel request cancels the job and a resume lets it run."""
    cancelled, resumed, paused = (claimed(database, queue(database).id) for _ in range(3))
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


@pytest.mark.parametrize(("stop_request", "status"), [("cancel", Status.CANCELLED), ("pause", Status.PAUSED)])
def test_reaping_applies_stop_requests(database: Database, stop_request: str, status: Status) -> None:
    """A stop request is applied even if the worker died before it applied it."""
    job = claimed(database, queue(database).id)
    with database.write() as connection:
        (store.cancel if stop_request == "cancel" else store.pause)(connection, job, NOW)
    (reaped,) = reap(database, NOW + LEASE_S + 1)
    assert reaped.status is status
    assert reaped.stop_request is None
