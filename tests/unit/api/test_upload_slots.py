"""Slots and threads for uploads: bounded in total and for each owner."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack

import pytest

from api.requests.upload_slots import MAX_OPEN, THREADS, UploadSlots
from zoodip_core.service.errors import UploadsBusyError


def test_one_owner_can_use_half() -> None:
    """The next upload of the owner is refused, another owner's is not; closed slots are free again."""

    async def run() -> None:
        slots = UploadSlots()
        async with AsyncExitStack() as held:
            for _ in range(MAX_OPEN // 2):
                await held.enter_async_context(slots.open("a"))
            with pytest.raises(UploadsBusyError):
                async with slots.open("a"):
                    pass
            async with slots.open("b"):
                pass
            async with slots.open("a", is_only_owner=True):
                pass
        async with slots.open("a"):
            pass

    asyncio.run(run())


def test_total() -> None:
    """All owners together have a limit."""

    async def run() -> None:
        slots = UploadSlots()
        async with AsyncExitStack() as held:
            for number in range(MAX_OPEN):
                await held.enter_async_context(slots.open(f"owner-{number}"))
            with pytest.raises(UploadsBusyError):
                async with slots.open("one more"):
                    pass

    asyncio.run(run())


def test_threads_of_one_owner() -> None:
    """Blocked uploads of one owner leave threads for another owner."""

    async def run() -> str:
        slots, release = UploadSlots(), threading.Event()
        async with slots.open("a"), slots.open("b"):
            blocked = [asyncio.ensure_future(slots.run("a", release.wait)) for _ in range(THREADS)]
            name = await slots.run("b", lambda: "b ran")
            assert not any(task.done() for task in blocked)
            release.set()
            await asyncio.gather(*blocked)
            return name

    assert asyncio.run(run()) == "b ran"
