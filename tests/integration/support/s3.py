"""An S3 protocol server of the tests' own (moto), which can be stopped and started again with what it holds."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

from moto.server import ThreadedMotoServer

from tests.integration.support.processes import accepts, free_port, wait_until


class OwnS3:
    """A server on a port of its own. Its objects live in this process, so they outlast the server."""

    def __init__(self) -> None:
        self.port = free_port()
        self.bucket = f"zoodip-{secrets.token_hex(6)}"
        self.environment = aws(self.port)
        self._running: ThreadedMotoServer | None = None

    def start(self) -> None:
        """Listen, on the same port each time."""
        self._running = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._running.start()
        wait_until(lambda: accepts(self.port), "an S3 server")

    def stop(self) -> None:
        """Refuse connections; the objects stay."""
        if self._running is not None:
            self._running.stop()
            self._running = None


def aws(port: int) -> dict[str, str]:
    """The variables that lead an object store of scheme s3:// to a server on this machine."""
    return {
        "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


@contextmanager
def own_s3() -> Iterator[OwnS3]:
    """A running server with an empty bucket."""
    s3 = OwnS3()
    s3.start()
    try:
        urlopen(Request(f"http://127.0.0.1:{s3.port}/{s3.bucket}", method="PUT")).close()
        yield s3
    finally:
        s3.stop()
