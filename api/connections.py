"""HTTP connections with limits: their number, and the time that each may wait without a complete request."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from typing import Any

from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

WAIT_S = 30
"""Seconds that a connection may wait for the head of its next request. Covers idle clients and slow heads."""

MAX_CONNECTIONS = 4_000
# After this time without progress the kernel drops a client that does not read its response.
_UNSENT_MS = 60_000
_MAX_BACKLOG = 128
_log = logging.getLogger("zoodip.api")  # throttled, because clients can cause any number of these events


def connection_limit() -> int:
    """Return the largest number of connections: half of the process's file descriptors, at most 4,000.

    The other half is for the database, uploads and connections that are accepted while others are closed.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(MAX_CONNECTIONS, files // 2))


class WaitingConnections:
    """Connections that wait for the head of a request, longest first."""

    def __init__(self) -> None:
        self._since: dict[LimitedProtocol, float] = {}

    def add(self, connection: LimitedProtocol, now: float) -> None:
        """Add a connection at the end."""
        self._since.pop(connection, None)
        self._since[connection] = now

    def discard(self, connection: LimitedProtocol) -> None:
        """Remove a connection that has a request or is closed."""
        self._since.pop(connection, None)

    def close_longest(self) -> None:
        """Close the connection that has waited longest."""
        connection = next(iter(self._since), None)
        if connection is not None:
            self.discard(connection)
            connection.transport.abort()

    def close_older(self, before: float) -> None:
        """Close the connections that wait since a time before the given one."""
        for connection, since in list(self._since.items()):
            if since >= before:
                return
            self.discard(connection)
            connection.transport.close()


class LimitedConfig(Config):
    """Configuration of the server with its limits.

    Attributes:
        max_connections: limit of open connections. Beyond it, each new connection closes the one that has waited
            longest for a request, so that idle connections cannot keep others out.
        waiting: connections without a request.
    """

    def __init__(self, app: Any, *, max_connections: int | None = None, **options: Any) -> None:
        self.max_connections = connection_limit() if max_connections is None else max_connections
        self.waiting = WaitingConnections()
        super().__init__(
            app,
            http=LimitedProtocol,
            ws="none",
            # The event loop accepts a whole backlog before it handles the first of its connections.
            backlog=min(_MAX_BACKLOG, max(1, self.max_connections // 4)),
            timeout_keep_alive=WAIT_S,
            **options,
        )


class LimitedProtocol(H11Protocol):
    """One connection, which is waiting until a request arrives and again after its response."""

    config: LimitedConfig

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection. Make room for it if there are too many."""
        super().connection_made(transport)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            connected = transport.get_extra_info("socket")
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNSENT_MS)
        self.config.waiting.add(self, self.loop.time())
        if len(self.connections) > self.config.max_connections:
            _log.warning("connection_limit_reached")
            self.config.waiting.close_longest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection."""
        self.config.waiting.discard(self)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle received data. A complete head ends the wait."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self.config.waiting.discard(self)

    def on_response_complete(self) -> None:
        """Wait for the next request. The rest of an unread body counts as waiting."""
        self.config.waiting.add(self, self.loop.time())
        super().on_response_complete()


class LimitedServer(Server):
    """Server that closes connections without a request."""

    config: LimitedConfig

    async def on_tick(self, counter: int) -> bool:
        """Close connections that waited too long; uvicorn calls this ten times a second."""
        self.config.waiting.close_older(asyncio.get_running_loop().time() - WAIT_S)
        return await super().on_tick(counter)
