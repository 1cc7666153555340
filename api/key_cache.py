"""Cache of API keys, so that most requests are authenticated without a database query."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from functools import partial

from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError

from api.cached_read import CachedRead
from zoodip_core.service import api_keys
from zoodip_core.service.api_keys import ApiKey
from zoodip_core.service.database import Database

_MAX_ENTRIES = 10_000
_RECORD_USE_EVERY_S = 60.0
_READER_THREADS = 3


class KeyCache:
    """Results of key lookups, at most one second old, and the record of when keys are used.

    Every API process rejects a revoked key after one second. All methods run on the event loop.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._entries: dict[str, CachedRead[ApiKey | None]] = {}  # by digest, to keep no secret in memory
        self._recorded: dict[str, float] = {}
        self._recording: set[asyncio.Task[None]] = set()
        # Separate threads, because all request threads may be waiting for a database lock.
        self._readers, self._writers = CapacityLimiter(_READER_THREADS), CapacityLimiter(1)
        self._any_exist = CachedRead(self._read_any_exist, self._readers)
        self._exist = False

    async def find(self, secret: str) -> ApiKey | None:
        """Return the key with this secret; None if it is unknown or revoked.

        Raises:
            SQLAlchemyError: The database is unavailable.
        """
        digest = api_keys.digest(secret)
        entry = self._entries.get(digest)
        if entry is None:
            if len(self._entries) >= _MAX_ENTRIES:
                self._entries.clear()
            entry = CachedRead(partial(self._read, digest), self._readers)
            self._entries[digest] = entry
        return await entry.get()

    async def any_exist(self) -> bool:
        """Return whether any key exists. Once true, it stays true.

        Raises:
            SQLAlchemyError: The database is unavailable.
        """
        if not self._exist:
            self._exist = await self._any_exist.get()
        return self._exist

    def is_use_recorded(self, key: ApiKey) -> bool:
        """Return whether this process has recorded a use of the key within the last minute."""
        return time.monotonic() - self._recorded.get(key.id, -math.inf) < _RECORD_USE_EVERY_S

    def record_use(self, key: ApiKey) -> None:
        """Record a use of the key in the background, so that requests succeed while the database is read-only."""
        self._recorded[key.id] = time.monotonic()
        recording = asyncio.create_task(to_thread.run_sync(self._write_use, key, limiter=self._writers))
        self._recording.add(recording)
        recording.add_done_callback(self._recording.discard)

    async def close(self) -> None:
        """Wait for pending writes."""
        if self._recording:
            await asyncio.wait(self._recording)

    def _read(self, digest: str) -> ApiKey | None:
        with self._database.read() as connection:
            return api_keys.find_by_digest(connection, digest)

    def _read_any_exist(self) -> bool:
        with self._database.read() as connection:
            return api_keys.any_exist(connection)

    def _write_use(self, key: ApiKey) -> None:
        with suppress(SQLAlchemyError), self._database.write() as connection:
            api_keys.record_use(connection, key.id, time.time())
