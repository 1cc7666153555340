"""The pool of decoders: shares of owners, turns, and canceled uploads."""

from __future__ import annotations

import asyncio

from api.decoding.decoder import DecodeLimits
from api.decoding.pool import DecoderPool
from zoodip_core.images import ImageLimits


class _Uploads:
    """Uploads that hold a decoder until a test ends them."""

    def __init__(self, size: int) -> None:
        self.pool = DecoderPool(size, DecodeLimits(ImageLimits(), 60, 1_000))
        self.started: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    async def begin(self, name: str) -> asyncio.Task[None]:
        """Start an upload; the first letter of its name is the owner."""
        self._ends[name] = asyncio.Event()
        task = asyncio.create_task(self._hold(name))
        await self.settle()
        return task

    async def end(self, name: str) -> None:
        """End an upload."""
        self._ends[name].set()
        await self.settle()

    async def settle(self) -> None:
        """Let all tasks run until they wait."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def _hold(self, name: str) -> None:
        async with self.pool.reserve(name[0]):
            self.started.append(name)
            await self._ends[name].wait()


def test_one_owner_leaves_a_decoder_to_others() -> None:
    """A second upload of the same owner waits, although a decoder is idle; another owner does not wait."""

    async def run() -> None:
        uploads = _Uploads(2)
        for name in ("a1", "a2", "a3", "b1"):
            await uploads.begin(name)
        assert uploads.started == ["a1", "b1"]
        await uploads.end("b1")
        assert uploads.started == ["a1", "b1"]
        await uploads.end("a1")
        assert uploads.started == ["a1", "b1", "a2"]

    asyncio.run(run())


def test_waiting_owners_take_turns() -> None:
    """With one decoder, an owner with many uploads is served as often as one with a single upload."""

    async def run() -> None:
        uploads = _Uploads(1)
        for name in ("a1", "a2", "a3", "b1", "c1"):
            await uploads.begin(name)
        for name in ("a1", "a2", "b1", "c1"):
            await uploads.end(name)
        assert uploads.started == ["a1", "a2", "b1", "c1", "a3"]

    asyncio.run(run())


def test_a_canceled_upload_gives_up_its_place_or_its_decoder() -> None:
    """A client that disconnects blocks nobody, whether it waits, is being served or is just served."""

    async def run() -> None:
        uploads = _Uploads(1)
        first, waiting = await uploads.begin("a1"), await uploads.begin("b1")
        last = await uploads.begin("c1")
        waiting.cancel()
        await uploads.settle()
        first.cancel()  # frees the decoder, which c1 takes
        await uploads.settle()
        assert uploads.started == ["a1", "c1"]
        just_served = await uploads.begin("d1")
        last.cancel()
        await asyncio.sleep(0)  # d1 has its decoder, and has not run yet
        just_served.cancel()
        await uploads.begin("e1")
        assert uploads.started[-1] == "e1"

    asyncio.run(run())
