"""Server processes on free ports, stopped at the end of the test."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil


def free_port() -> int:
    """Return a TCP port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Return as soon as the condition holds; fail with `what` after the timeout."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {timeout_s} s"
        time.sleep(0.02)


def accepts(port: int) -> bool:
    """Return whether something listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def stop(process: subprocess.Popen[bytes], *, grace_s: float = 60.0) -> None:
    """Send SIGTERM; after the grace period send SIGKILL to the process and its children."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


@contextmanager
def server(
    command: Sequence[str], port: int, log: Path, **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server, wait until it accepts connections, and stop it at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )
    try:
        wait_until(
            lambda: accepts(port) or process.poll() is not None,
            f"{command[0]} on port {port} ({log.read_text()})",
        )
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        stop(process)
