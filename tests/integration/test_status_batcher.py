"""Concurrent status polls share a statement, and no poll gets a result that is older than itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Connection, event, text

from api.status_batcher import StatusBatcher
from tests.integration.support.jobs import NOW, queue
from tests.integration.support.postgresql import postgresql_url
from zoodip_core.service.database import Database
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.queue_order import QueueOrder
from zoodip_core.service.jobs.states import JobKind, Status

KIND = JobKind.PERSONALIZATION


@pytest.fixture
def database_url() -> Iterator[str]:
    """URL of a PostgreSQL database. SQLite has no concurrent polls, because it responds synchronously."""
    with postgresql_url() as url:
        yield url


@pytest.fixture
def status_batcher(database: Database) -> Iterator[StatusBatcher]:
    """Batcher on an empty database."""
    batcher = StatusBatcher(database, QueueOrder())
    yield batcher
    asyncio.run(batcher.close())


@pytest.fixture
def statements(status_batcher: StatusBatcher) -> list[str]:
    """SQL statements that the batcher executes."""
    executed: list[str] = []
    assert status_batcher.engine is not None
    event.listen(
        status_batcher.engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _k, sql, *_: executed.append(sql),
    )
    return executed


def test_concurrent_polls_share_a_statement(
    database: Database, status_batcher: StatusBatcher, statements: list[str]
) -> None:
    """Ten polls of three jobs are one SELECT; polls with a wrong owner or kind still find nothing."""
    jobs = [queue(database, now=NOW + n) for n in range(3)]
    statements.clear()

    async def poll() -> list[object]:
        valid = [status_batcher.find(jobs[n % 3].id, "alice", KIND) for n in range(8)]
        invalid = [
            status_batcher.find(jobs[0].id, "bob", KIND),
            status_batcher.find(jobs[0].id, "alice", JobKind.GENERATION),
        ]
        return await asyncio.gather(*valid, *invalid, return_exceptions=True)

    *found, wrong_owner, wrong_kind = asyncio.run(poll())
    assert [getattr(snapshot, "queue_position", None) for snapshot in found] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert isinstance(wrong_owner, NotFoundError)
    assert isinstance(wrong_kind, NotFoundError)
    assert len(statements) == 1


def test_poll_sees_earlier_writes(
    database: Database, status_batcher: StatusBatcher, statements: list[str]
) -> None:
    """Polls that arrive while a statement waits for a lock share the next statement and see a new cancel."""
    job = queue(database)
    statements.clear()

    async def poll() -> list[Status]:
        with database.write() as connection:
            await asyncio.to_thread(connection.execute, text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
            first = asyncio.create_task(status_batcher.find(job.id, "alice", KIND))
            while not any(sql.startswith("SELECT") for sql in statements):
                await asyncio.sleep(0.001)
            await asyncio.to_thread(store.cancel, connection, job, NOW)
            late = [asyncio.create_task(status_batcher.find(job.id, "alice", KIND)) for _ in range(5)]
            await asyncio.sleep(0)
            before = len(statements)
        found = [await task for task in late]
        await first
        assert len(statements) == before + 1
        return [snapshot.status for snapshot in found]

    assert asyncio.run(poll()) == [Status.CANCELLED] * 5


def test_poll_reconnects_after_a_lost_connection(database: Database, status_batcher: StatusBatcher) -> None:
    """After the server closes the idle connection, as in a restart, the next poll uses a new one."""
    job = queue(database)
    pids: list[int] = []
    assert status_batcher.engine is not None

    @event.listens_for(status_batcher.engine.sync_engine, "engine_connect")
    def _on_connect(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.AsyncConnection)
        pids.append(driver.info.backend_pid)

    async def poll() -> str:
        await status_batcher.find(job.id, "alice", KIND)
        with database.write() as connection:
            terminated = connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pids[0]})
            assert terminated.scalar_one()
        return (await status_batcher.find(job.id, "alice", KIND)).id

    assert asyncio.run(poll()) == job.id
    assert len(set(pids)) == 2


def test_cancelled_poll_does_not_cancel_others(database: Database, status_batcher: StatusBatcher) -> None:
    """If the first of two polls with one statement is cancelled, the second still gets its result."""
    job = queue(database)

    async def poll() -> str:
        first = asyncio.create_task(status_batcher.find(job.id, "alice", KIND))
        second = asyncio.create_task(status_batcher.find(job.id, "alice", KIND))
        await asyncio.sleep(0)
        first.cancel()
        return (await second).id

    assert asyncio.run(poll()) == job.id
