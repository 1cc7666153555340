"""Pool of decoder processes, shared fairly between owners."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.decoding.decoder import DecodeLimits, Decoder


class DecoderPool:
    """Decoder processes that uploads take in turns.

    An owner has at most half of the decoders at a time, so one is free for others as a rule. When several owners
    wait, they take turns. The pool does not limit the number of waiting uploads.
    """

    def __init__(self, size: int, limits: DecodeLimits) -> None:
        self._idle = [Decoder(limits) for _ in range(size)]
        self._share = max(1, size // 2)
        self._in_use: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[Decoder]]] = {}

    @asynccontextmanager
    async def reserve(self, owner: str) -> AsyncIterator[Decoder]:
        """Wait for a decoder without occupying a thread; yield it and take it back."""
        decoder = await self._acquire(owner)
        try:
            yield decoder
        finally:
            self._release(owner, decoder)

    def close(self) -> None:
        """End all idle processes."""
        for decoder in self._idle:
            decoder.close()

    async def _acquire(self, owner: str) -> Decoder:
        turn: asyncio.Future[Decoder] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._assign()
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._release(owner, turn.result())
            raise

    def _release(self, owner: str, decoder: Decoder) -> None:
        self._idle.append(decoder)
        self._in_use[owner] -= 1
        if not self._in_use[owner]:
            del self._in_use[owner]
        self._assign()

    def _assign(self) -> None:
        """Give idle decoders to waiting uploads, one owner after the other."""
        while self._idle and (owner := self._next_owner()) is not None:
            queue = self._waiting.pop(owner)
            turn = queue.popleft()
            if queue:
                self._waiting[owner] = queue  # behind the other owners
            if not turn.cancelled():
                self._in_use[owner] = self._in_use.get(owner, 0) + 1
                turn.set_result(self._idle.pop())

    def _next_owner(self) -> str | None:
        owners = (owner for owner in self._waiting if self._in_use.get(owner, 0) < self._share)
        return next(owners, None)
