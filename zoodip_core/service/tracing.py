"""OpenTelemetry traces from the request to the steps of its job. Needs the extra `telemetry`, else does nothing.

The row of a job stores the W3C `traceparent` of the request that created it, so the worker's spans join that trace.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_INSTALLED = importlib.util.find_spec("opentelemetry") is not None
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def configure_tracing(endpoint: str | None, service: str) -> None:
    """Export spans to an OTLP endpoint over HTTP.

    Args:
        endpoint: URL of the endpoint; None disables tracing.
        service: Name of this service in the traces.

    Raises:
        ImportError: An endpoint is set, but the extra `telemetry` is not installed.
    """
    if endpoint is None:
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)


def valid_traceparent(header: str | None) -> str | None:
    """Return the header if it is a valid traceparent, else None."""
    return header if header is not None and _TRACEPARENT.fullmatch(header) else None


@contextmanager
def span(name: str, parent: str | None, **attributes: str | int) -> Iterator[str | None]:
    """Record a span around the block.

    Yields:
        The traceparent of the span; without tracing, the parent.
    """
    tracer = _tracer()
    if tracer is None:
        yield parent
        return
    with tracer.start_as_current_span(name, context=_context(parent), attributes=attributes) as current:
        found = current.get_span_context()
        if not found.is_valid:
            yield parent
        else:
            yield f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}"


def record_span(
    name: str, parent: str | None, started_s: float, ended_s: float, **attributes: str | int
) -> None:
    """Record a span of a past operation; times are in seconds since 1970."""
    tracer = _tracer()
    if tracer is not None:
        started = tracer.start_span(
            name, context=_context(parent), start_time=int(started_s * 1e9), attributes=attributes
        )
        started.end(end_time=int(ended_s * 1e9))


def _tracer() -> Any:
    if not _INSTALLED:
        return None
    from opentelemetry import trace

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # tracing is not configured
        return None
    return trace.get_tracer("zoodip")


def _context(parent: str | None) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return None if parent is None else TraceContextTextMapPropagator().extract({"traceparent": parent})
