"""Status polls: those that come while the database answers others share the next question."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from zoodip_core.service.database import Database
from zoodip_core.service.jobs.records import JobSnapshot
from zoodip_core.service.jobs.snapshots import snapshots
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.jobs.store import check_found


class StatusBatcher:
    """Where jobs stand, asked by many at once. All of it runs on the event loop.

    A poll is answered by a statement that began after the poll came, so a client sees what it wrote before.
    """

    def __init__(self, database: Database) -> None:
        self._connection: AsyncConnection | None = None
        # Kept, for a poll must not wait for a pool that waiting writers have emptied.
        self._own = database.connect() if database.is_sqlite else None
        self.engine = None if database.is_sqlite else _engine(database.url)
        self._waiting: list[tuple[str, asyncio.Future[JobSnapshot | None]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def find(self, job_id: str, owner: str, kind: JobKind) -> JobSnapshot:
        """Where the job stands.

        Raises:
            NotFoundError: there is none of that kind, or it is another's.
        """
        answer: asyncio.Future[JobSnapshot | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((job_id, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._answer_all())
        found = await answer
        return check_found(found, job_id, owner, kind)

    async def close(self) -> None:
        """Close the connection."""
        if self._own is not None:
            self._own.close()
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

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

    async def _ask(self, job_ids: Collection[str]) -> dict[str, JobSnapshot]:
        if self.engine is None:  # SQLite's reads take less than the way to a thread, and wait for no writer
            assert self._own is not None
            return snapshots(self._own, job_ids)
        try:
            return await self._ask_afar(job_ids)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            await self.close()  # it was from before a restart of the server
            return await self._ask_afar(job_ids)

    async def _ask_afar(self, job_ids: Collection[str]) -> dict[str, JobSnapshot]:
        assert self.engine is not None
        if self._connection is None:
            self._connection = await self.engine.connect()
        return await self._connection.run_sync(snapshots, job_ids)


def _engine(url: str) -> AsyncEngine:
    """For one connection that the event loop itself waits for; a thread would contend with it for the interpreter.

    Without a pool, since the connection is kept: to take it from one costs a third of a question.
    """
    return create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True)
