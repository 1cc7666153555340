"""HTTP server of photos on the loopback address: good ones, and responses that a download must refuse."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class PhotoServer(ThreadingHTTPServer):
    """Answers each path with the bytes that `files` has for it.

    Other paths: `/to/URL` redirects to URL, `/slow` sends the headers and then nothing until `released` is set,
    `/drip` sends one byte after the other, `/short` closes the connection before the end, and the rest is 404 with
    a body.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.requested: list[str] = []
        self.released = threading.Event()

    def url(self, path: str) -> str:
        """Return the URL of a path on this server."""
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: PhotoServer

    def do_GET(self) -> None:
        """Answer the path."""
        self.server.requested.append(self.path)
        if self.path in self.server.files:
            self._send(200, self.server.files[self.path])
        elif self.path.startswith("/to/"):
            self._send(302, b"moved", Location=self.path.removeprefix("/to/"))
        elif self.path in ("/slow", "/drip"):
            self._begin()
            while not self.server.released.wait(0.05):
                if self.path == "/drip":
                    self.wfile.write(b"x")
        elif self.path == "/short":
            self._begin()
            self.wfile.write(b"x")
        else:
            self._send(404, b"secret of the server")

    def _begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()  # without a length, the end of the connection ends the body
        self.wfile.write(body)

    def handle(self) -> None:
        """Handle requests until the client has closed the connection, which it may do at any time."""
        with suppress(OSError):
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Write no log."""


@contextmanager
def photo_server(files: dict[str, bytes], certificate: Path | None = None) -> Iterator[PhotoServer]:
    """Run a server and yield it; with a certificate it speaks TLS."""
    server = PhotoServer(files)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
