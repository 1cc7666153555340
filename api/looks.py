"""Status polls: those that come while the database answers others share the next question."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from zoodip_core.jobs.database import Database
from zoodip_core.jobs.records import Standing
from zoodip_core.jobs.standings import standings
from zoodip_core.jobs.states import Kind
from zoodip_core.jobs.store import check_found


class Looks:
    """Where jobs stand, asked by many at once. All of it runs on the event loop.

    A poll is answered by a statement that began after the poll came, so a client sees what it wrote before.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.engine = None if database.is_sqlite else _engine(database.url)
        self._waiting: list[tuple[str, asyncio.Future[Standing | None]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def find(self, job_id: str, owner: str, kind: Kind) -> Standing:
        """Where the job stands.

        Raises:
            NotFoundError: there is none of that kind, or it is another's.
        """
        answer: asyncio.Future[Standing | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((job_id, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._answer_all())
        found = await answer
        check_found(None if found is None else found.job, job_id, owner, kind)
        assert found is not None  # else: not found
        return found

    async def close(self) -> None:
        """Close the connection."""
        if self.engine is not None:
            await self.engine.dispose()

    async def _answer_all(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            try:
                found = await self._ask({job_id for job_id, _ in waiting})
            except Exception as error:  # noqa: BLE001 (it is theirs who asked)
                for _, answer in waiting:
                    if not answer.done():
                        answer.set_exception(error)
            else:
                for job_id, answer in waiting:
                    if not answer.done():  # who asked may be gone
                        answer.set_result(found.get(job_id))
        self._asking = None

    async def _ask(self, job_ids: Collection[str]) -> dict[str, Standing]:
        if self.engine is None:  # SQLite's reads take less than the way to a thread, and never wait
            with self._database.read() as connection:
                return standings(connection, job_ids)
        try:
            return await _ask_through(self.engine, job_ids)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            return await _ask_through(self.engine, job_ids)  # the connection was from before a restart


async def _ask_through(engine: AsyncEngine, job_ids: Collection[str]) -> dict[str, Standing]:
    async with engine.connect() as connection:
        return await connection.run_sync(standings, job_ids)


def _engine(url: str) -> AsyncEngine:
    """One connection that the event loop itself waits for: a thread would contend with it for the interpreter."""
    return create_async_engine(url, pool_size=1, max_overflow=0, isolation_level="AUTOCOMMIT")
