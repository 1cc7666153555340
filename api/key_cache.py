"""API keys as they were a moment ago: most requests need no look into the database for who calls."""

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

FRESH_S = 1.0  # a revoked key opens nothing after this long, in every API process
_MAX_KNOWN = 10_000
_NOTE_USE_EVERY_S = 60.0
_READERS = 3


class KeyCache:
    """What the database said of keys within the last second."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._known: dict[str, tuple[ApiKey | None, float]] = {}  # by digest: no secret stays in memory
        self._noted: dict[str, float] = {}
        self._noting: set[asyncio.Task[None]] = set()
        # Threads of their own: those of requests may all be waiting for a writer.
        self._readers, self._writers = CapacityLimiter(_READERS), CapacityLimiter(1)
        self._any: tuple[bool, float] | None = None

    def recall(self, secret: str) -> tuple[ApiKey | None, bool]:
        """The key with this secret, and whether that is known without asking."""
        with self._lock:
            key, asked_at = self._known.get(api_keys.digest(secret), (None, 0.0))
        return key, time.monotonic() - asked_at < FRESH_S

    async def find(self, secret: str) -> ApiKey | None:
        """The key with this secret, asked of the database."""
        return await to_thread.run_sync(self._find, secret, limiter=self._readers)

    def _find(self, secret: str) -> ApiKey | None:
        with self._database.read() as connection:
            key = api_keys.find(connection, secret)
        with self._lock:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[api_keys.digest(secret)] = (key, time.monotonic())
        return key

    def is_use_noted(self, key: ApiKey) -> bool:
        """Whether this process has noted lately that the key is used."""
        return time.monotonic() - self._noted.get(key.id, -math.inf) < _NOTE_USE_EVERY_S

    def note_use(self, key: ApiKey) -> None:
        """Note it some time: a database that cannot be written now must not keep anyone from reading."""
        self._noted[key.id] = time.monotonic()
        noting = asyncio.create_task(to_thread.run_sync(self._write_use, key, limiter=self._writers))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def close(self) -> None:
        """Wait for what is being noted."""
        if self._noting:
            await asyncio.wait(self._noting)

    def _write_use(self, key: ApiKey) -> None:
        with suppress(SQLAlchemyError), self._database.write() as connection:
            api_keys.record_use(connection, key.id, time.time())

    def recall_any(self) -> bool | None:
        """Whether there are keys at all; None if that must be asked. The first key makes it permanently true."""
        if self._any is None:
            return None
        exist, asked_at = self._any
        return exist if exist or time.monotonic() - asked_at < FRESH_S else None

    async def find_any(self) -> bool:
        """Whether there are keys at all, asked of the database."""
        return await to_thread.run_sync(self._find_any, limiter=self._readers)

    def _find_any(self) -> bool:
        with self._database.read() as connection:
            exist = api_keys.any_exist(connection)
        self._any = (exist, time.monotonic())
        return exist
