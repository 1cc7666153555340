"""A write during which its worker was suspended."""

from __future__ import annotations

import time

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from tests.integration.support.photos import create
from worker.leased_writes import LeasedWriter
from zoodip_core.service.database import Database
from zoodip_core.service.errors import LeaseLostError
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import JobKind, Status

LEASE_S = 0.05


@pytest.fixture
def job(client: TestClient, database: Database) -> Job:
    """Claimed personalization."""
    create(client)
    with database.write() as connection:
        claimed = leases.claim_next(connection, JobKind.PERSONALIZATION, "w", time.time(), LEASE_S)
    assert claimed is not None
    return claimed


class _Suspended:
    """Write whose first attempt outlasts two lease times; meanwhile the server ends its session."""

    attempts = 0

    def __call__(self, _connection: Connection) -> int:
        self.attempts += 1
        if self.attempts == 1:
            time.sleep(3 * LEASE_S)
            raise OperationalError("COMMIT", {}, ConnectionError())
        return self.attempts


def test_write_is_repeated_after_a_suspension(database: Database, job: Job) -> None:
    """The attempt after the suspension writes, if no other worker has the job."""
    assert LeasedWriter(database, "w", LEASE_S).write_with_retry(leases.lease_of(job), _Suspended()) == 2


def test_write_after_a_suspension_finds_the_lease_lost(database: Database, job: Job) -> None:
    """If another worker has the job by then, the write is refused for its lease, not for the database."""
    writer, suspended = LeasedWriter(database, "w", LEASE_S), _Suspended()

    def write(connection: Connection) -> None:
        suspended(connection)
        leases.finish(connection, leases.lease_of(job), Status.QUEUED, time.time())

    with database.write() as connection:
        leases.requeue(connection, leases.lease_of(job), time.time())
    with pytest.raises(LeaseLostError):
        writer.write_with_retry(leases.lease_of(job), write)
