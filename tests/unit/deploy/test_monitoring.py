"""Grafana dashboard and alert rules name only metrics and labels that `/metrics` has."""

from __future__ import annotations

import ast
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import RequestMetrics, render
from api.service import Service
from worker.stats import Stats
from zoodip_core.service import stored_objects, usage, worker_registry
from zoodip_core.service.database import Database
from zoodip_core.service.settings import ServiceSettings

ROOT = Path(__file__).parents[3]
METRIC = re.compile(r"\bzoodip_\w+")
MATCHERS = re.compile(r"(zoodip_\w+)\{([^}]*)\}")
GROUPING = re.compile(r"\bby \(([^)]*)\)")
OF_JOBS = {
    "zoodip_jobs": {"kind", "status"},
    "zoodip_failed_jobs": {"code"},
}  # without jobs they have no samples


def _names_in_the_worker(kind: str) -> set[str]:
    """Return the names under which the modules of the worker store counters or gauges."""
    names: set[str] = set()
    for file in (ROOT / "worker").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] == kind:
                keys: list[ast.expr | None] = [node.slice]
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == kind:
                keys = node.value.keys if isinstance(node.value, ast.Dict) else []
            else:
                continue
            names |= {
                key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
    return names


@pytest.fixture(scope="module")
def labels_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the labels of each metric that `/metrics` writes for a worker with all its counters and gauges."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('metrics') / 'zoodip.sqlite3'}")
    database.migrate()
    stats = Stats()
    stats.record_step("emoji", searches=1, rows=3, seconds=1.0)
    with stats.stage("step"):
        stats.counters.update(dict.fromkeys(_names_in_the_worker("counters"), 1))
        stats.gauges.update(dict.fromkeys(_names_in_the_worker("gauges"), 1.0))
    stats.gauges[worker_registry.ENGINE_IDLE] = 0.0
    with database.write() as connection:
        worker_registry.report(connection, "host-1-a", time.time(), draining=False, stats=stats.snapshot())
        stored_objects.add(connection, "alice", "", {"concepts/con_1.safetensors": 1})
        usage.sample_stored_bytes(connection, time.time())
    requests = RequestMetrics()
    requests.observe("GET", "/livez", 200, 0.1)
    service = cast(Service, SimpleNamespace(database=database, settings=ServiceSettings()))
    text = render(service, requests).decode()
    database.close()
    found: dict[str, set[str]] = {name: set(labels) for name, labels in OF_JOBS.items()}
    assert all(f"# TYPE {name} gauge" in text for name in OF_JOBS)
    for family in text_string_to_metric_families(text):
        for sample in (sample for sample in family.samples if not sample.name.endswith("_created")):
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())["panels"]
    return found


def _expressions() -> list[str]:
    queries = [target["expr"] for panel in _panels() for target in panel["targets"]]
    return [*queries, *(rule["expr"] for rule in _alerts())]


def test_metrics_exist(labels_of: dict[str, set[str]]) -> None:
    """Each metric and label of a query exists. A name that does not exist is found."""
    assert "zoodip_worker_gpu_memory_mb" in labels_of
    assert "zoodip_worker_gpu_memory" not in labels_of
    for expression in _expressions():
        names = METRIC.findall(expression)
        assert names
        assert set(names) <= labels_of.keys(), expression
        for name, matchers in MATCHERS.findall(expression):
            assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers)) <= labels_of[name], expression
        known = {label for name in names for label in labels_of[name]}
        for group in GROUPING.findall(expression):
            assert {label.strip() for label in group.split(",")} <= known, expression


def test_documented_metrics_exist(labels_of: dict[str, set[str]]) -> None:
    """The guide lists every metric, and no other."""
    guide = (ROOT / "docs/how-to/monitor.md").read_text()
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in labels_of}
    assert set(METRIC.findall(guide)) == families


def test_queries_merge_api_processes() -> None:
    """Each API process reports the same jobs and workers, so each query of them takes the maximum."""
    for expression in _expressions():
        for name in set(METRIC.findall(expression)):
            if not name.startswith("zoodip_http_"):
                assert re.search(rf"(max( by \([^)]*\))? \(?|max\(|absent\()\S*{name}", expression), (
                    expression
                )


def test_dashboard_has_no_overlapping_panels() -> None:
    """Panels have separate ids and places, and each query is shown with the chosen data source."""
    panels = _panels()
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (column, row)
        for panel in panels
        for place in [panel["gridPos"]]
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) == 23
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)


def test_alerts_say_what_to_do() -> None:
    """Each rule has another name, a severity, a summary and a description."""
    alerts = _alerts()
    assert len({rule["alert"] for rule in alerts}) == len(alerts)
    for rule in alerts:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}
