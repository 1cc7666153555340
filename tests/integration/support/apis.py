"""APIs behind a real socket: as processes that `uvicorn` starts, or in this process."""

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
    """The URL of an API process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "api.app:create_app", "--factory", "--port", str(port)]
    with server(command, port, log, cwd=ROOT, env=environment(settings)):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def api_here(settings: ServiceSettings) -> Iterator[str]:
    """The URL of an API on a thread of this process, where a test may change its constants."""
    port = free_port()
    config = uvicorn.Config(create_app(settings), port=port, log_level="warning", timeout_graceful_shutdown=2)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        wait_until(lambda: running.started or not thread.is_alive(), "an API")
        assert running.started
        yield f"http://127.0.0.1:{port}"
    finally:
        running.should_exit = True
        thread.join()
