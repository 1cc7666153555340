"""Cache of API keys, so that most requests are authenticated without a database query."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from contextlib import suppress

from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError

from zoodip_core.service import api_keys
from zoodip_core.service.api_keys import ApiKey
from zoodip_core.service.database import Database

FRESH_S = 1.0  # lifetime of an entry: every API process rejects a revoked key after this time
_MAX_ENTRIES = 10_000
_RECORD_USE_EVERY_S = 60.0
_READER_THREADS = 3


class KeyCache:
    """Results of key lookups, fresh for one second. Also records when keys are used."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[ApiKey | None, float]] = {}  # by digest, to keep no secret in memory
        self._recorded: dict[str, float] = {}
        self._recording: set[asyncio.Task[None]] = set()
        # Separate threads, because all request threads may be waiting for a database lock.
        self._readers, self._writers = CapacityLimiter(_READER_THREADS), CapacityLimiter(1)
        self._any_exist: tuple[bool, float] | None = None

    def get_cached(self, secret: str) -> tuple[ApiKey | None, bool]:
        """Return the cached key with this secret, and whether the entry is fresh."""
        with self._lock:
            key, read_at = self._entries.get(api_keys.digest(secret), (None, 0.0))
        return key, time.monotonic() - read_at < FRESH_S

    async def find(self, secret: str) -> ApiKey | None:
        """Read the key with this secret from the database; None if it is unknown or revoked."""
        return await to_thread.run_sync(self._find, secret, limiter=self._readers)

    def _find(self, secret: str) -> ApiKey | None:
        with self._database.read() as connection:
            key = api_keys.find(connection, secret)
        with self._lock:
            if len(self._entries) >= _MAX_ENTRIES:
                self._entries.clear()
            self._entries[api_keys.digest(secret)] = (key, time.monotonic())
        return key

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

    def _write_use(self, key: ApiKey) -> None:
        with suppress(SQLAlchemyError), self._database.write() as connection:
            api_keys.record_use(connection, key.id, time.time())

    def cached_any_exist(self) -> bool | None:
        """Return whether any key exists; None without a fresh entry. Once true, it stays true."""
        if self._any_exist is None:
            return None
        exist, read_at = self._any_exist
        return exist if exist or time.monotonic() - read_at < FRESH_S else None

    async def any_exist(self) -> bool:
        """Read from the database whether any key exists."""
        return await to_thread.run_sync(self._read_any_exist, limiter=self._readers)

    def _read_any_exist(self) -> bool:
        with self._database.read() as connection:
            exist = api_keys.any_exist(connection)
        self._any_exist = (exist, time.monotonic())
        return exist
