"""API servers on a TCP port: as a process, or on a thread of this process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from api.app import create_app
from tests.integration.support.processes import free_port, server, wait_until
from tests.integration.support.workers import ROOT, environment
from zoodip_core.service.settings import ServiceSettings


@contextmanager
def api(settings: ServiceSettings, log: Path) -> Iterator[str]:
    """Run an API process and yield its URL."""
    port = free_port()
    command = [sys.executable, "-m", "api", "--port", str(port)]
    with server(command, port, log, cwd=ROOT, env=environment(settings)):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def api_thread(settings: ServiceSettings) -> Iterator[str]:
    """Run an API on a thread of this process, where a test can patch constants, and yield its URL."""
    port = free_port()
    config = uvicorn.Config(create_app(settings), port=port, log_level="warning", timeout_graceful_shutdown=2)
    uvicorn_server = uvicorn.Server(config)
    thread = threading.Thread(target=uvicorn_server.run)
    thread.start()
    try:
        wait_until(lambda: uvicorn_server.started or not thread.is_alive(), "an API")
        assert uvicorn_server.started
        yield f"http://127.0.0.1:{port}"
    finally:
        uvicorn_server.should_exit = True
        thread.join()
