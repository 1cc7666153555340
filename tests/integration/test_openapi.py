"""The OpenAPI document and the running service agree (schemathesis)."""

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
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
PERSONALIZATION = {"token": "<my-dog>", "initializer": "dog", "settings": {"steps": 30}}


def test_answers_are_as_documented(settings: ServiceSettings, catalogue: Path, tmp_path: Path) -> None:
    """Generated requests, good and bad, get no 5xx, no undocumented status and bodies of the documented form."""
    settings.data_dir.mkdir(exist_ok=True)
    stub = settings.model_copy(update={"engine": STUB, "tick_s": 0.2})
    with api(stub, tmp_path / "log") as url, worker(stub), httpx2.Client(base_url=url) as client:
        ids = _things(client, stub)
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) >= 20
        answers = Counter[tuple[str, int]]()
        for operation in sorted(operations, key=lambda one: one.method == "delete"):
            _check(operation, lambda case: _make_usable(case, ids, tiny_concept(catalogue)), answers)
    good = {name for (name, status) in answers if status < 300}
    steered = {f"post /v1/personalizations/{{id}}/{act}" for act in ("pause", "resume")}  # it has ended: 409
    assert {_name(operation) for operation in operations} - good == steered
    assert {name for (name, status) in answers if status == 409} >= steered


def _name(operation: Any) -> str:
    return f"{operation.method} {operation.path}"


def _things(client: httpx2.Client, stub: ServiceSettings) -> dict[str, str]:
    """A personalization, a concept and a generation, by the start of their paths."""
    body = {"request": json.dumps(PERSONALIZATION)}
    made = client.post("/v1/personalizations", files=parts(photo()), data=body).json()
    done = wait_for_job(stub, made["id"], Status.SUCCEEDED)
    drawn = client.post(
        "/v1/generations", json={"prompt": "a <my-dog>"}, headers={"Prefer": "wait=30"}
    ).json()
    return {
        "/v1/personalizations": made["id"],
        "/v1/concepts": (done.result or {})["concept_id"],
        "/v1/generations": drawn["id"],
    }


def _check(
    operation: Any, make_usable: Callable[[schemathesis.Case], None], answers: Counter[tuple[str, int]]
) -> None:
    turn = count()

    @EXAMPLES
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        if next(turn) % 2:
            make_usable(case)
        answer = case.call_and_validate(checks=CHECKS, timeout=20)
        answers[_name(operation), answer.status_code] += 1

    check()


def _make_usable(case: schemathesis.Case, ids: dict[str, str], embedding: bytes) -> None:
    """What chance does not find: ids that exist, a photo, an embedding, words that the base model knows."""
    start = "/".join(case.path.split("/")[:3])
    for name, value in (("id", ids.get(start)), ("step", 30), ("k", 0)):
        if name in case.path_parameters:
            case.path_parameters[name] = value
    if not isinstance(case.body, dict):
        return
    if case.path == "/v1/concepts":
        case.body |= {"file": Binary(embedding), "token": "<other>", "base_model": "tiny", "replace": "true"}
    if isinstance(case.body.get("request"), dict):
        case.body["images"] = [Binary(photo())]
        case.body["request"] = {**case.body["request"], "initializer": "dog", "base_model": "tiny"}


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
