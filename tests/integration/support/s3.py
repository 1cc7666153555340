"""S3 server (moto) that a test can stop and start again without losing objects."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

from moto.server import ThreadedMotoServer

from tests.integration.support.processes import accepts, free_port, wait_until


class S3Server:
    """S3 server on a free port. Its objects are in the memory of this process, so they survive a stop."""

    def __init__(self) -> None:
        self.port = free_port()
        self.bucket = f"zoodip-{secrets.token_hex(6)}"
        self.environment = aws(self.port)
        self._server: ThreadedMotoServer | None = None

    def start(self) -> None:
        """Listen, on the same port after each start."""
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        wait_until(lambda: accepts(self.port), "an S3 server")

    def stop(self) -> None:
        """Stop listening; the objects stay."""
        if self._server is not None:
            self._server.stop()
            self._server = None


def aws(port: int) -> dict[str, str]:
    """Return the environment variables that direct an s3:// object store to a local server."""
    return {
        "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


@contextmanager
def start_s3() -> Iterator[S3Server]:
    """Run a server with an empty bucket."""
    s3 = S3Server()
    s3.start()
    try:
        urlopen(Request(f"http://127.0.0.1:{s3.port}/{s3.bucket}", method="PUT")).close()
        yield s3
    finally:
        s3.stop()
