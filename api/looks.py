"""Status polls: those that come while the database answers others share the next question."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

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
        self._thread = ThreadPoolExecutor(1, "looks")  # its own: no question waits behind uploads
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

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

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
        if self._database.is_sqlite:  # a read takes less than the way to a thread, and never waits
            return self._read(job_ids)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, job_ids)

    def _read(self, job_ids: Collection[str]) -> dict[str, Standing]:
        with self._database.read() as connection:
            return standings(connection, job_ids)
