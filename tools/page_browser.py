"""A real service and a real Chromium, for the browser tests and the screenshots of the page."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Playwright

_READY_S = 120.0
_POLL_S = 0.1


def find_chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def launch(playwright: Playwright, executable: str) -> Browser:
    """Start a headless browser. As root it runs without its sandbox, which root cannot use."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=executable, args=arguments)


@contextmanager
def serve(folder: Path, **environment: str) -> Iterator[str]:
    """Run `zoodip serve` with its data in the folder, wait until a worker is ready, and yield its URL.

    Raises:
        RuntimeError: The service ended, or is not ready within two minutes.
    """
    port = _free_port()
    main = "from zoodip_core.cli.main import run; run()"
    command = [sys.executable, "-c", main, "serve", "--port", str(port), "--data-dir", str(folder)]
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=output, stderr=output, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _READY_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310  # our own URL
                return
        except OSError:
            time.sleep(_POLL_S)
    raise RuntimeError(f"the service is not ready: {log.read_text()}")
