"""Deadlines for request bodies: a client that stops sending, or sends too slowly, gets 408."""

from __future__ import annotations

import asyncio
import time

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

MAX_PAUSE_S = 30.0
"""Longest pause between two chunks."""

_GRACE_S = 60.0
_MIN_BYTES_PER_S = 8_000  # a slow mobile connection


def with_deadlines(receive: Receive) -> Receive:
    """Return a `receive` that raises an HTTPException with status 408 if the body arrives too slowly.

    A body may take one minute, and one more second for each 8 kB received. After the end of the body there is no
    deadline, because `receive` then waits for the client to disconnect.
    """
    started_at: float | None = None  # when the route begins to read, which can be after it has waited
    received_bytes = 0
    is_complete = False

    async def receive_in_time() -> Message:
        nonlocal started_at, received_bytes, is_complete
        if is_complete:
            return await receive()
        now = time.monotonic()
        started_at = now if started_at is None else started_at
        remaining_s = started_at + _GRACE_S + received_bytes / _MIN_BYTES_PER_S - now
        try:
            async with asyncio.timeout(min(MAX_PAUSE_S, remaining_s)):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(
                408, "The body of the request arrived too slowly.", {"Connection": "close"}
            ) from error
        received_bytes += len(message.get("body", b""))
        is_complete = not message.get("more_body", False)
        return message

    return receive_in_time
