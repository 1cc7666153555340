"""A cheap load generator: HTTP/1.1 over kept-alive connections; it parses only lengths."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Load:
    """Rates and latencies of a server under load."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float  # CPU time of the server for one request; other programs do not count

    def __str__(self) -> str:
        """Return the text for the table."""
        return f"{self.per_s:.0f}/s, p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"


def measure(port: int, pid: int, paths: Sequence[str], *, seconds: float, secret: str | None = None) -> Load:
    """GET each path repeatedly for `seconds`, each on a separate connection, with an API key if given."""
    headers = f"Host: 127.0.0.1:{port}\r\n"
    if secret is not None:
        headers += f"Authorization: Bearer {secret}\r\n"
    requests = [f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode() for path in paths]
    return asyncio.run(_measure(port, psutil.Process(pid), requests, seconds))


async def _measure(port: int, server: psutil.Process, requests: Sequence[bytes], seconds: float) -> Load:
    end = time.perf_counter() + seconds
    started, cpu = time.perf_counter(), sum(server.cpu_times()[:2])
    parts = await asyncio.gather(*(_connection(port, request, end) for request in requests))
    took, cpu = time.perf_counter() - started, sum(server.cpu_times()[:2]) - cpu
    times = sorted(one for part in parts for one in part)
    cuts = statistics.quantiles(times, n=100)
    return Load(len(times) / took, cuts[49] * 1000, cuts[98] * 1000, cpu / len(times) * 1000)


async def _connection(port: int, request: bytes, end: float) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    while (now := time.perf_counter()) < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode(errors="replace"))
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        times.append(time.perf_counter() - now)
    writer.close()
    return times
