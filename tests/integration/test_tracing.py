"""One trace covers the request and the steps of its job."""

from __future__ import annotations

import threading

import pytest
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.integration.support.photos import create
from tests.integration.support.workers import STUB, wait_for_job
from worker.process import WorkerProcess
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.settings import ServiceSettings

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """Exporter that stores spans in memory. A process can set its tracer provider only once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_job_joins_the_trace_of_its_request(
    client: TestClient, settings: ServiceSettings, exporter: InMemorySpanExporter
) -> None:
    """The spans of a request and its job have the client's trace id; an invalid header is ignored."""
    exporter.clear()
    headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
    created = create(client, settings={"steps": 15}, headers=headers)
    assert create(client, token="<bad>", headers={"traceparent": "x" * 300}).status_code == 202
    process = WorkerProcess(settings.model_copy(update={"engine": STUB, "slots": 1, "tick_s": 0.1}))
    process.start()
    wait_for_job(settings, created.json()["id"], Status.SUCCEEDED)
    process.drain()
    process.join()
    assert not any(thread.name in ("engine", "heartbeat") for thread in threading.enumerate())
    spans = [span for span in exporter.get_finished_spans() if f"{span.context.trace_id:032x}" == TRACE_ID]
    steps = [
        span.attributes["step"] for span in spans if span.name == "personalization.steps" and span.attributes
    ]
    assert steps == [0, 10, 15]
    assert {span.name for span in spans} >= {  # FastAPI adds more spans
        "request",
        "personalization.begin",
        "personalization.steps",
        "personalization.checkpoint",
        "personalization.complete",
    }
