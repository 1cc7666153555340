"""Processes that the benchmark starts: API, worker and a bare FastAPI route."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI

ROOT = Path(__file__).parents[2]


def bare() -> FastAPI:
    """Return the smallest FastAPI application: one route with a short answer."""
    app = FastAPI()

    @app.get("/bare")
    async def answer() -> dict[str, str]:
        return {"status": "ok"}

    return app


def free_port() -> int:
    """Return an unused TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def api(
    factory: str, ready: str, environment: dict[str, str]
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run uvicorn with the application; yield its port and process."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", factory, "--factory", "--port", str(port)]
    with _process([*command, "--no-access-log", "--log-level", "warning"], environment) as process:
        wait_for(f"http://127.0.0.1:{port}{ready}")
        yield port, process


@contextmanager
def worker(port: int, environment: dict[str, str]) -> Iterator[None]:
    """Run a worker; yield once the API on that port reports it."""
    with _process([sys.executable, "-m", "worker"], environment):
        wait_for(f"http://127.0.0.1:{port}/readyz")
        yield


def wait_for(url: str, timeout_s: float = 120.0) -> None:
    """Wait until the URL answers 200.

    Raises:
        TimeoutError: it did not answer in time.
    """
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 (our own server)
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise TimeoutError(f"{url} did not answer within {timeout_s} s")


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    given = {**os.environ, "ZOODIP_LOG_LEVEL": "WARNING", **environment}
    process = subprocess.Popen(command, cwd=ROOT, env=given)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
