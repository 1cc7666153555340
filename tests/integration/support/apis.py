"""API processes as `uvicorn` starts them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.support.processes import free_port, server
from tests.integration.support.workers import ROOT, environment
from zoodip_core.jobs.settings import ServiceSettings


@contextmanager
def api(settings: ServiceSettings, log: Path) -> Iterator[str]:
    """The URL of an API process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "api.app:create_app", "--factory", "--port", str(port)]
    with server(command, port, log, cwd=ROOT, env=environment(settings)):
        yield f"http://127.0.0.1:{port}"
