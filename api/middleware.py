"""Middleware that gives each request an id, a log line, a duration and a trace span."""

from __future__ import annotations

import re
import secrets
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.body_deadlines import with_deadlines
from api.metrics import RequestMetrics
from api.problems import problem
from zoodip_core.service.tracing import span, valid_traceparent

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET_ROUTES = frozenset({"/livez", "/readyz", "/metrics"})

# These routes limit their bodies after they have authenticated the client.
_LARGE_BODIES = frozenset({"/sdapi/v1/png-info"})

MAX_JSON_BYTES = 64_000  # fits both prompts and the metadata; uploads have separate limits
_TOO_LARGE = problem(413, "body_too_large", f"The body is larger than {MAX_JSON_BYTES:,} bytes.")
_INTERNAL_ERROR = problem(
    500, "internal_error", "The service failed unexpectedly; its log has the details under the request id."
)


class RequestMiddleware:
    """Assigns a request id, which the log and the `X-Request-Id` header contain, and measures each request."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self.app = app
        self.metrics = metrics
        self.log = structlog.get_logger("zoodip.api").bind()  # once here, because binding costs time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, headers = scope["method"], Headers(scope=scope)
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
            with span("request", parent, method=method, path=scope["path"]) as traceparent:
                scope.setdefault("state", {})["traceparent"] = traceparent
                app = _TOO_LARGE if _is_too_large(scope["path"], headers) else self.app
                await app(scope, with_deadlines(receive), send_with_id)
        except Exception:
            self.log.exception("request_failed", method=method)
            if status:  # the response has started, so only closing the connection remains
                raise
            await _INTERNAL_ERROR(scope, receive, send_with_id)
        finally:
            self._record(method, scope, status, time.perf_counter() - started)

    def _record(self, method: str, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self.metrics.observe(method, route, status, seconds)
        level = self.log.debug if route in _QUIET_ROUTES else self.log.info
        level("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))


def _is_too_large(path: str, headers: Headers) -> bool:
    """Return whether Content-Length exceeds the limit. The route enforces the limit if the header is wrong."""
    length = headers.get("Content-Length", "0")
    is_form = headers.get("Content-Type", "").lower().startswith("multipart/")
    is_limited = not is_form and path not in _LARGE_BODIES
    return is_limited and length.isdecimal() and int(length) > MAX_JSON_BYTES
