"""Batches concurrent status polls: requests that arrive during a query are answered by the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from zoodip_core.service.database import Database
from zoodip_core.service.jobs.queue_order import QueueOrder
from zoodip_core.service.jobs.records import JobSnapshot
from zoodip_core.service.jobs.snapshots import snapshots
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.jobs.store import check_found
from zoodip_core.service.postgresql import create_status_engine


class StatusBatcher:
    """Reads snapshots of jobs for many requests with one query. All methods run on the event loop.

    The query that answers a request starts after the request arrives, so clients see their own earlier writes.
    """

    def __init__(self, database: Database, queue_order: QueueOrder) -> None:
        self._database = database
        self._queue_order = queue_order
        self._connection: AsyncConnection | None = None
        # A dedicated connection, because waiting writers can exhaust the pool. On PostgreSQL it is asynchronous: a
        # thread would compete with the event loop for the GIL.
        self._sqlite = database.connect() if database.is_sqlite else None
        self.engine = None if database.is_sqlite else create_status_engine(database.url, database.breaker)
        self._pending: list[tuple[str, asyncio.Future[JobSnapshot | None]]] = []
        self._batch_task: asyncio.Task[None] | None = None

    async def find(self, job_id: str, owner: str, kind: JobKind) -> JobSnapshot:
        """Return the current snapshot of a job.

        Raises:
            NotFoundError: The owner has no job of this kind with this id.
            OperationalError: The database is unavailable.
        """
        answer: asyncio.Future[JobSnapshot | None] = asyncio.get_running_loop().create_future()
        self._pending.append((job_id, answer))
        if self._batch_task is None:
            self._batch_task = asyncio.create_task(self._answer_all())
        found = await answer
        return check_found(found, job_id, owner, kind)

    async def close(self) -> None:
        """Close the database connections."""
        if self._sqlite is not None:
            self._sqlite.close()
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _answer_all(self) -> None:
        while self._pending:
            pending, self._pending = self._pending, []
            try:
                found = await self._query({job_id for job_id, _ in pending})
            except Exception as error:  # noqa: BLE001 (each request gets the error)
                for _, answer in pending:
                    if not answer.done():
                        answer.set_exception(error)
            else:
                for job_id, answer in pending:
                    if not answer.done():  # the client may have disconnected
                        answer.set_result(found.get(job_id))
        self._batch_task = None

    async def _query(self, job_ids: Collection[str]) -> dict[str, JobSnapshot]:
        if self.engine is None:  # SQLite reads are faster than a thread switch and do not wait for writers
            assert self._sqlite is not None
            return snapshots(self._sqlite, job_ids, self._queue_order)
        self._database.check_responds()
        try:
            return await self._query_async(job_ids)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            await self.close()  # the database server restarted or does not respond
            self._database.check_responds()
            return await self._query_async(job_ids)

    async def _query_async(self, job_ids: Collection[str]) -> dict[str, JobSnapshot]:
        assert self.engine is not None
        if self._connection is None:
            self._connection = await self.engine.connect()
        found = await self._connection.run_sync(snapshots, job_ids, self._queue_order)
        self._database.breaker.record_success()
        return found
