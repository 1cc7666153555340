"""Middleware that answers HEAD on each GET route: the headers of the GET response without its body."""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """Runs the GET route for a HEAD request and drops the body. Streams end after their headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        scope["method"] = "GET"

        async def send_without_body(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            await send({"type": "http.response.body", "body": b""})
            if message.get("more_body", False):
                stream.cancel()
                await checkpoint()  # end here, before the route sends more

        with anyio.CancelScope() as stream:
            await self.app(scope, receive, send_without_body)
