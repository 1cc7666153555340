"""The running service matches its OpenAPI document, checked with schemathesis."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.transport.serialization import Binary

from tests.integration.support.apis import api
from tests.integration.support.concepts import tiny_concept
from tests.integration.support.photos import parts, photo
from tests.integration.support.workers import STUB, wait_for_job, worker
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.settings import ServiceSettings

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
SQUARE = {"x": 16, "y": 0, "side": 80}  # inside photo()
PERSONALIZATION = {"token": "<my-dog>", "initializer": "dog", "settings": {"steps": 30}}


def test_responses_match_the_document(settings: ServiceSettings, catalog: Path, tmp_path: Path) -> None:
    """Generated valid and invalid requests get documented statuses and schemas, and no 5xx."""
    settings.data_dir.mkdir(exist_ok=True)
    stub = settings.model_copy(update={"engine": STUB, "tick_s": 0.2})
    with api(stub, tmp_path / "log") as url, worker(stub), httpx2.Client(base_url=url) as client:
        ids = _create_resources(client, stub)
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) >= 20
        responses = Counter[tuple[str, int]]()
        for operation in sorted(operations, key=lambda operation: operation.method == "delete"):
            _check(operation, lambda case: _make_usable(case, ids, tiny_concept(catalog)), responses)
    succeeded = {name for (name, status) in responses if status < 300}
    # The job has ended, so these return 409.
    conflicting = {f"post /v1/personalizations/{{id}}/{act}" for act in ("pause", "resume")}
    assert {_name(operation) for operation in operations} - succeeded == conflicting
    assert {name for (name, status) in responses if status == 409} >= conflicting


def _name(operation: Any) -> str:
    return f"{operation.method} {operation.path}"


def _create_resources(client: httpx2.Client, stub: ServiceSettings) -> dict[str, str]:
    """Create a personalization, a concept and a generation. Return their ids by path prefix."""
    body = {"request": json.dumps(PERSONALIZATION)}
    created = client.post("/v1/personalizations", files=parts(photo()), data=body).json()
    learned = wait_for_job(stub, created["id"], Status.SUCCEEDED)
    generation = client.post(
        "/v1/generations", json={"prompt": "a <my-dog>"}, headers={"Prefer": "wait=30"}
    ).json()
    return {
        "/v1/personalizations": created["id"],
        "/v1/concepts": (learned.result or {})["concept_id"],
        "/v1/generations": generation["id"],
    }


def _check(
    operation: Any, make_usable: Callable[[schemathesis.Case], None], responses: Counter[tuple[str, int]]
) -> None:
    turn = count()

    @EXAMPLES
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        if next(turn) % 2:
            make_usable(case)
        response = case.call_and_validate(checks=CHECKS, timeout=20)
        responses[_name(operation), response.status_code] += 1

    check()


def _make_usable(case: schemathesis.Case, ids: dict[str, str], embedding: bytes) -> None:
    """Insert values that random generation does not find: existing ids, photos, an embedding, known words."""
    prefix = "/".join(case.path.split("/")[:3])
    for name, value in (("id", ids.get(prefix)), ("step", 30), ("k", 0)):
        if name in case.path_parameters:
            case.path_parameters[name] = value
    if not isinstance(case.body, dict):
        return
    if case.path == "/v1/concepts":
        case.body |= {"file": Binary(embedding), "token": "<other>", "base_model": "tiny", "replace": "true"}
    if case.path == "/v1/generations":
        case.body = {"prompts": ["a cat", "a dog"]}  # a fuzzed request may have renamed the concept
    if case.path == "/v1/inspections":
        case.body |= {"images": [Binary(photo())], "request": {"crop": [SQUARE]}}
    elif isinstance(case.body.get("request"), dict):
        case.body["images"] = [Binary(photo())]
        case.body["request"] |= {"initializer": "dog", "base_model": "tiny", "crop": [SQUARE]}


def test_every_route_lists_its_errors(client: TestClient) -> None:
    """Every route documents its errors, and the document contains the schemas that routes reference by name."""
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1"):
                assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), path
    refs = document["components"]["schemas"]
    assert {"Problem", "PersonalizationRequest", "InspectionRequest", "Personalization"} <= set(refs)


def test_documentation_page_needs_no_other_host(client: TestClient) -> None:
    """The page works in a private network and runs no scripts of other hosts."""
    page = client.get("/docs").text
    matches = re.findall(r"""(?:src|href)="([^"]+)"|url: '([^']+)'""", page)
    urls = [attribute or script for attribute, script in matches]
    assert len(urls) == 4  # script, style, icon, document
    for url in urls:
        assert url.startswith("/")
        assert client.get(url).is_success
    assert not re.findall(r"https?://", page)
