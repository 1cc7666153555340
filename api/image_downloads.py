"""Downloads reference images from URLs of clients: only from public addresses, with limits of time and bytes.

A download waits on the event loop, so it occupies no thread. Nothing of the response but its status is shown to the
client, because the URL may lead where only the service can look.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from urllib.parse import SplitResult, urljoin

import anyio
import httpcore2
import structlog
from anyio import to_thread

from api.requests.upload_slots import UploadSlots
from zoodip_core.errors import InvalidInputError
from zoodip_core.service.errors import InvalidImageUrlError
from zoodip_core.service.outbound_urls import host_and_port, parse_url, resolve, target

MAX_OPEN = 16
"""Requests that download at once; one of several owners uses half of them. All others of an API process upload."""

MAX_PAUSE_S = 10.0
"""Longest pause between two parts of a response; also the limit of a connection attempt."""

_MAX_REDIRECTS = 3
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_HEADERS: dict[bytes | str, bytes | str] = {
    "User-Agent": "zoodip",
    "Accept": "image/*",
    "Accept-Encoding": "identity",
}
_LOOKUP_THREADS = 16  # a name server that hangs must not occupy the threads of other work
_UNREACHABLE = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    OSError,
    UnicodeError,
)

_log = structlog.get_logger("zoodip.api")


class ImageDownloads:
    """Limits the downloads of all requests of an API process.

    Args:
        private: allow http and non-public addresses.
        max_bytes: size limit of a file.
    """

    def __init__(self, *, private: bool, max_bytes: int) -> None:
        self._private = private
        self._max_bytes = max_bytes
        self._slots = UploadSlots(MAX_OPEN)
        self._lookups = anyio.CapacityLimiter(_LOOKUP_THREADS)

    @asynccontextmanager
    async def open(self, owner: str, *, is_only_owner: bool = False) -> AsyncIterator[ImageDownloader]:
        """Hold a slot for the downloads of a request, and their connections.

        Raises:
            UploadsBusyError: All slots that the owner can use are taken.
        """
        network = GuardedNetwork(self._lookups, private=self._private)
        pool = httpcore2.AsyncConnectionPool(ssl_context=_ssl_context(), network_backend=network)
        async with self._slots.open(owner, is_only_owner=is_only_owner), pool as connections:
            yield ImageDownloader(connections, private=self._private, max_bytes=self._max_bytes)


class ImageDownloader:
    """Downloads the files of one request."""

    def __init__(self, connections: httpcore2.AsyncConnectionPool, *, private: bool, max_bytes: int) -> None:
        self._connections = connections
        self._private = private
        self._max_bytes = max_bytes

    async def download(self, url: str, write: Callable[[bytes], None], *, field: str) -> None:
        """Download a file. Up to three redirects are followed; each target is checked as the URL itself.

        Args:
            url: the URL.
            write: receives the parts of the file.
            field: field of the URL in messages.

        Raises:
            InvalidImageUrlError: The URL or a redirect is not allowed, or its server sends no file within the limits.
            StorageError: As `write`.
        """
        parts = parse_url(url, private=self._private, field=field, error=InvalidImageUrlError)
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                async with self._response(parts) as response:
                    if response.status not in _REDIRECTS:
                        await self._receive(response, write, field)
                        return
                    parts = self._redirected(parts, response, field)
        except _UNREACHABLE as error:
            _log.info("image_url_unreachable", error=type(error).__name__)
            raise InvalidImageUrlError.mismatch(
                field,
                got="no complete response",
                expected="a server with a public address that sends the image",
            ) from error
        raise InvalidImageUrlError.mismatch(
            field, got=f"more than {_MAX_REDIRECTS} redirects", expected=f"at most {_MAX_REDIRECTS}"
        )

    @asynccontextmanager
    async def _response(self, parts: SplitResult) -> AsyncIterator[httpcore2.Response]:
        host, port = host_and_port(parts)
        url = httpcore2.URL(scheme=parts.scheme, host=host, port=port, target=target(parts))
        waits = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), MAX_PAUSE_S)}
        headers = {"Host": parts.netloc, **_HEADERS}
        async with self._connections.stream("GET", url, headers=headers, extensions=waits) as response:
            yield response

    def _redirected(self, parts: SplitResult, response: httpcore2.Response, field: str) -> SplitResult:
        """Return the target of a redirect. The message does not show it."""
        location = next((value for name, value in response.headers if name.lower() == b"location"), b"")
        try:
            moved = urljoin(parts.geturl(), location.decode("ascii"))
            return parse_url(moved, private=self._private, field=field)
        except (InvalidInputError, ValueError) as error:
            raise InvalidImageUrlError.mismatch(
                field,
                got="a redirect to a URL that is not allowed",
                expected="an https URL with a public address",
            ) from error

    async def _receive(
        self, response: httpcore2.Response, write: Callable[[bytes], None], field: str
    ) -> None:
        if response.status != 200:
            raise InvalidImageUrlError.mismatch(field, got=f"the status {response.status}", expected="200")
        received = 0
        async for data in response.aiter_stream():
            received += len(data)
            if received > self._max_bytes:
                raise InvalidImageUrlError.mismatch(
                    field,
                    got=f"a file of more than {self._max_bytes:,} bytes",
                    expected=f"at most {self._max_bytes:,} bytes",
                )
            write(data)


class GuardedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to the address that was checked, so that another DNS answer cannot replace it."""

    def __init__(self, lookups: anyio.CapacityLimiter, *, private: bool) -> None:
        self._lookups = lookups
        self._private = private
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve and check the host, and connect to its address."""
        look_up = functools.partial(resolve, host, port, private=self._private)
        address = await to_thread.run_sync(look_up, limiter=self._lookups, abandon_on_cancel=True)
        return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    return ssl.create_default_context()
