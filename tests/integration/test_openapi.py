"""The OpenAPI document and the running service agree (schemathesis)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.integration.support.apis import api
from zoodip_core.jobs.settings import ServiceSettings


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The embedded default."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def test_answers_are_as_documented(settings: ServiceSettings, tmp_path: Path) -> None:
    """Generated requests, good and bad, get no 5xx, no undocumented status and bodies of the documented form."""
    with api(settings, tmp_path / "log") as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) >= 20
        for operation in operations:
            if operation.path not in ("/readyz", "/metrics"):  # 503 without a worker is what the first says
                _check(operation)


def _check(operation: Any) -> None:
    @EXAMPLES
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=20)

    check()


def test_every_route_lists_its_errors(client: TestClient) -> None:
    """Problems are documented with their media type wherever they can come."""
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1"):
                assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), path
    refs = document["components"]["schemas"]
    assert {"Problem", "PersonalizationRequest", "Personalization"} <= set(refs)


def test_the_page_of_all_calls_asks_no_other_host(client: TestClient) -> None:
    """A browser beside a private service has no other host to ask, and need not run what another one sends."""
    page = client.get("/docs").text
    addresses = re.findall(r"""(?:src|href)="([^"]+)"|url: '([^']+)'""", page)
    wanted = [one or other for one, other in addresses]
    assert len(wanted) == 4  # script, style, icon, document
    for address in wanted:
        assert address.startswith("/")
        assert client.get(address).is_success
    assert not re.findall(r"https?://", page)
