"""Deadlines of request bodies: pauses, low rates, and no deadline after the end."""

from __future__ import annotations

import asyncio

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message

from api import body_deadlines


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_deadlines, "MAX_PAUSE_S", 0.2)
    monkeypatch.setattr(body_deadlines, "_GRACE_S", 0.5)


def _read(chunks: int, pause_s: float, size: int = 1) -> int:
    """Read a body of chunks with pauses between them; return the number of chunks."""

    async def receive() -> Message:
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": b"a" * size, "more_body": True}

    async def read() -> int:
        receive_in_time = body_deadlines.with_deadlines(receive)
        for _ in range(chunks):
            await receive_in_time()
        return chunks

    return asyncio.run(read())


def test_long_pause() -> None:
    """A pause beyond the limit raises 408."""
    with pytest.raises(HTTPException) as found:
        _read(1, pause_s=30.0)
    assert found.value.status_code == 408


def test_slow_body() -> None:
    """A client that sends single bytes in time is too slow on the whole."""
    with pytest.raises(HTTPException) as found:
        _read(10_000, pause_s=0.01)
    assert found.value.status_code == 408


def test_fast_body() -> None:
    """A body of any size may take its time, if enough arrives."""
    assert _read(100, pause_s=0.01, size=100_000) == 100


def test_no_deadline_after_the_body() -> None:
    """After the end, `receive` waits for the disconnect."""
    messages: list[Message] = [
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        await asyncio.sleep(0 if len(messages) == 2 else 0.6)
        return messages.pop(0)

    async def read() -> list[str]:
        receive_in_time = body_deadlines.with_deadlines(receive)
        return [(await receive_in_time())["type"] for _ in range(2)]

    assert asyncio.run(read()) == ["http.request", "http.disconnect"]
