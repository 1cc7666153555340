"""Limits for uploads, so that they leave threads, memory and disk for other requests and other owners."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
from anyio import to_thread

from zoodip_core.service.errors import UploadsBusyError

MAX_OPEN = 64  # uploads that are received or processed at once
THREADS = 8  # uploads that are processed at once; the threads of other requests are separate

T = TypeVar("T")


@dataclass
class _Owner:
    """Open uploads of one owner, and its share of the threads."""

    open: int = 0
    threads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(THREADS // 2))


class UploadSlots:
    """Counts uploads on the event loop. One of several owners can use half of all slots and threads."""

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self._max_open = max_open
        self._threads = anyio.CapacityLimiter(THREADS)
        self._owners: dict[str, _Owner] = {}

    @asynccontextmanager
    async def open(self, owner: str, *, is_only_owner: bool = False) -> AsyncIterator[None]:
        """Hold a slot for an upload.

        Args:
            owner: who sends the upload.
            is_only_owner: whether the service has no other owners, so that this one can use all slots.

        Raises:
            UploadsBusyError: All slots that the owner can use are taken.
        """
        held = self._owners.get(owner) or _Owner()
        total = sum(other.open for other in self._owners.values())
        if total >= self._max_open or (held.open >= self._max_open // 2 and not is_only_owner):
            raise UploadsBusyError
        self._owners[owner] = held
        held.open += 1
        try:
            yield
        finally:
            held.open -= 1
            if held.open == 0:
                del self._owners[owner]

    async def run(self, owner: str, function: Callable[..., T], *args: object) -> T:
        """Call a blocking function on a thread for uploads. The owner must hold a slot.

        Args:
            owner: who sent the upload.
            function: what to call.
            args: its arguments.
        """
        async with self._owners[owner].threads:
            return await to_thread.run_sync(functools.partial(function, *args), limiter=self._threads)
