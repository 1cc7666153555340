"""Status polls: those that come while the database answers others share the next question."""

from __future__ import annotations

import asyncio
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
        self._asking = asyncio.Lock()
        self._next: tuple[set[str], asyncio.Task[dict[str, Standing]]] | None = None

    async def find(self, job_id: str, owner: str, kind: Kind) -> Standing:
        """Where the job stands.

        Raises:
            NotFoundError: there is none of that kind, or it is another's.
        """
        found = await self._ask(job_id)
        standing = found.get(job_id)
        check_found(None if standing is None else standing.job, job_id, owner, kind)
        return found[job_id]

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    async def _ask(self, job_id: str) -> dict[str, Standing]:
        if self._next is None:
            asked: set[str] = set()
            self._next = asked, asyncio.create_task(self._answer(asked))
        job_ids, answer = self._next
        job_ids.add(job_id)
        return await asyncio.shield(answer)  # others wait for it too

    async def _answer(self, job_ids: set[str]) -> dict[str, Standing]:
        async with self._asking:
            self._next = None  # who comes from now on asks the next one
            if self._database.is_sqlite:  # a read takes less than the way to a thread, and never waits
                return self._read(job_ids)
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, job_ids)

    def _read(self, job_ids: set[str]) -> dict[str, Standing]:
        with self._database.read() as connection:
            return standings(connection, job_ids)
