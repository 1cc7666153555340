"""Around every request: an id, one log line, its time."""

from __future__ import annotations

import re
import secrets
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Requests
from api.problems import problem
from zoodip_core.service.tracing import span, valid_traceparent

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})

MAX_JSON_BYTES = 64_000  # a prompt, its negative and metadata; uploads have caps of their own
_TOO_LARGE = problem(413, "body_too_large", f"The body has more than {MAX_JSON_BYTES:,} bytes")
_FAULT = problem(500, "internal_error", "This is a fault of the service; the log has it under the request id")


class RequestIds:
    """Names each request, in the log and in `X-Request-Id`, and measures it."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self.app = app
        self.requests = requests
        self.log = structlog.get_logger("zoodip.api").bind()  # once: to bind anew costs every request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("X-Request-Id", "")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        parent = valid_traceparent(headers.get("traceparent"))
        try:
            with span("request", parent, method=scope["method"], path=scope["path"]) as traceparent:
                scope.setdefault("state", {})["traceparent"] = traceparent
                app = _TOO_LARGE if _is_too_large(headers) else self.app
                await app(scope, receive, send_with_id)
        except Exception:
            self.log.exception("request_failed", method=scope["method"])
            if status:  # half an answer is out: the connection is all that can end
                raise
            await _FAULT(scope, receive, send_with_id)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self.requests.note(scope["method"], route, status, seconds)
        level = self.log.debug if route in _QUIET else self.log.info
        level("request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 1))


def _is_too_large(headers: Headers) -> bool:
    """By the length that the client announces; what it announces wrongly, the route's own cap ends."""
    length = headers.get("Content-Length", "0")
    is_form = headers.get("Content-Type", "").startswith("multipart/")
    return not is_form and length.isdecimal() and int(length) > MAX_JSON_BYTES
