"""Prometheus metrics: requests of this process, and jobs and workers from the database."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from api.service import Service
from zoodip_core.service import stored_objects, usage, worker_registry
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.tables import jobs
from zoodip_core.service.usage import Usage

__all__ = ["CONTENT_TYPE", "RequestMetrics", "render"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


class RequestMetrics:
    """Counts and durations of the requests of this process, by route."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "zoodip_http_request_seconds",
            "Duration of HTTP requests",
            ["method", "route"],
            registry=self.registry,
        )
        self.count = Counter(
            "zoodip_http_requests", "HTTP responses", ["method", "route", "status"], registry=self.registry
        )
        self._children: dict[tuple[str, str, int], tuple[Histogram, Counter]] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record one response. Unknown methods share a label, because clients can invent any number."""
        labels = (method if method in _METHODS else "other", route, status)
        found = self._children.get(labels)
        if found is None:
            found = self.seconds.labels(*labels[:2]), self.count.labels(*labels[:2], str(status))
            self._children[labels] = found
        histogram, counter = found
        histogram.observe(seconds)
        counter.inc()


class _DatabaseCollector(Collector):
    """Collects metrics from the database at each scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        """Return jobs by state, failures by error code, and the counters of each worker."""
        with self._service.database.read() as connection:
            counts = store.count_by_status(connection)
            code = jobs.c.error["code"].as_string()
            failed = select(code, func.count()).where(jobs.c.status == Status.FAILED).group_by(code)
            failures = connection.execute(failed).all()
            workers = worker_registry.consuming(connection, time.time(), self._service.settings.lease_s)
            ready = worker_registry.ready(connection, time.time(), self._service.settings)
            used, stored = usage.totals(connection), stored_objects.total_bytes_by_owner(connection)
        by_status = GaugeMetricFamily("zoodip_jobs", "Jobs by state", labels=["kind", "status"])
        for (kind, status), number in counts.items():
            by_status.add_metric([kind, status], number)
        by_code = GaugeMetricFamily("zoodip_failed_jobs", "Failed jobs by error code", labels=["code"])
        for name, number in failures:
            by_code.add_metric([str(name)], number)
        by_readiness = GaugeMetricFamily("zoodip_workers", "Workers that are ready", value=len(ready))
        return [by_status, by_code, by_readiness, *_usage_metrics(used, stored), *_worker_metrics(workers)]


def _usage_metrics(used: dict[str, Usage], stored: dict[str, int]) -> list[Metric]:
    families: list[Metric] = []
    for name, meaning in (
        ("evaluations", "U-Net evaluations"),
        ("seconds", "Seconds of engine time"),
        ("images", "Generated images"),
    ):
        counter = CounterMetricFamily(f"zoodip_usage_{name}", f"{meaning} by owner", labels=["owner"])
        for owner, total in used.items():
            counter.add_metric([owner], getattr(total, name))
        families.append(counter)
    size = GaugeMetricFamily("zoodip_usage_stored_bytes", "Stored bytes by owner", labels=["owner"])
    for owner, number in stored.items():
        size.add_metric([owner], number)
    return [*families, size]


def _worker_metrics(workers: list[worker_registry.WorkerRecord]) -> list[Metric]:
    counters: dict[str, CounterMetricFamily] = {}
    gauges: dict[str, GaugeMetricFamily] = {}
    stages = CounterMetricFamily(
        "zoodip_stage_seconds", "Time spent in each stage", labels=["worker", "stage"]
    )
    for worker in workers:
        for name, value in worker.stats.get("counters", {}).items():
            family = counters.setdefault(
                name, CounterMetricFamily(f"zoodip_worker_{name}", f"Workers: {name}", labels=["worker"])
            )
            family.add_metric([worker.id], value)
        for name, value in worker.stats.get("gauges", {}).items():
            gauge = gauges.setdefault(
                name, GaugeMetricFamily(f"zoodip_worker_{name}", f"Workers: {name}", labels=["worker"])
            )
            gauge.add_metric([worker.id], value)
        for stage, seconds in worker.stats.get("stages", {}).items():
            stages.add_metric([worker.id, stage], seconds)
    return [*counters.values(), *gauges.values(), stages]


def render(service: Service, requests: RequestMetrics | None = None) -> bytes:
    """Return all metrics in Prometheus text format."""
    registry = CollectorRegistry()
    registry.register(_DatabaseCollector(service))
    request_metrics = b"" if requests is None else generate_latest(requests.registry)
    return request_metrics + generate_latest(registry)
