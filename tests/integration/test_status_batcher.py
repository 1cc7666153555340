"""Status polls that come together share a statement, and none is answered by an older one."""

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
from zoodip_core.service.jobs.states import JobKind, Status

KIND = JobKind.PERSONALIZATION


@pytest.fixture
def database_url() -> Iterator[str]:
    """SQLite answers at once; of PostgreSQL's answers there is something to wait for."""
    with postgresql_url() as url:
        yield url


@pytest.fixture
def looks(database: Database) -> Iterator[StatusBatcher]:
    """Questions to the database."""
    looks = StatusBatcher(database)
    yield looks
    asyncio.run(looks.close())


@pytest.fixture
def statements(status_batcher: StatusBatcher) -> list[str]:
    """What the database is asked."""
    asked: list[str] = []
    assert looks.engine is not None
    event.listen(looks.engine.sync_engine, "before_cursor_execute", lambda _c, _k, sql, *_: asked.append(sql))
    return asked


def test_polls_that_come_together_share_a_statement(
    database: Database, status_batcher: StatusBatcher, statements: list[str]
) -> None:
    """Ten polls of three jobs are one SELECT; a stranger's and a wrong kind's find nothing all the same."""
    jobs = [queue(database, now=NOW + n) for n in range(3)]
    statements.clear()

    async def poll() -> list[object]:
        own = [looks.find(jobs[n % 3].id, "alice", KIND) for n in range(8)]
        others = [looks.find(jobs[0].id, "bob", KIND), looks.find(jobs[0].id, "alice", JobKind.GENERATION)]
        return await asyncio.gather(*own, *others, return_exceptions=True)

    *found, stranger, wrong_kind = asyncio.run(poll())
    assert [getattr(one, "queue_position", None) for one in found] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert isinstance(stranger, NotFoundError)
    assert isinstance(wrong_kind, NotFoundError)
    assert len(statements) == 1


def test_a_poll_sees_what_was_written_before_it(
    database: Database, status_batcher: StatusBatcher, statements: list[str]
) -> None:
    """While a statement hangs at a locked table the job is cancelled: polls that come then share the next one."""
    job = queue(database)
    statements.clear()

    async def poll() -> list[Status]:
        with database.write() as connection:
            await asyncio.to_thread(connection.execute, text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
            first = asyncio.create_task(looks.find(job.id, "alice", KIND))
            while not any(sql.startswith("SELECT") for sql in statements):
                await asyncio.sleep(0.001)
            await asyncio.to_thread(store.cancel, connection, job, NOW)
            late = [asyncio.create_task(looks.find(job.id, "alice", KIND)) for _ in range(5)]
            await asyncio.sleep(0)
            before = len(statements)
        found = [await one for one in late]
        await first
        assert len(statements) == before + 1
        return [one.status for one in found]

    assert asyncio.run(poll()) == [Status.CANCELLED] * 5


def test_a_poll_survives_the_loss_of_its_connection(
    database: Database, status_batcher: StatusBatcher
) -> None:
    """The server ends the idle connection, as a restart does; the next poll is answered through a new one."""
    job = queue(database)
    pids: list[int] = []
    assert looks.engine is not None

    @event.listens_for(looks.engine.sync_engine, "engine_connect")
    def _on_connect(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.AsyncConnection)
        pids.append(driver.info.backend_pid)

    async def poll() -> str:
        await looks.find(job.id, "alice", KIND)
        with database.write() as connection:
            ended = connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pids[0]})
            assert ended.scalar_one()
        return (await looks.find(job.id, "alice", KIND)).id

    assert asyncio.run(poll()) == job.id
    assert len(set(pids)) == 2


def test_a_poll_that_is_given_up_does_not_take_the_others_along(
    database: Database, status_batcher: StatusBatcher
) -> None:
    """The client that asked first goes away; the one that shares its statement is answered."""
    job = queue(database)

    async def poll() -> str:
        first = asyncio.create_task(looks.find(job.id, "alice", KIND))
        second = asyncio.create_task(looks.find(job.id, "alice", KIND))
        await asyncio.sleep(0)
        first.cancel()
        return (await second).id

    assert asyncio.run(poll()) == job.id
