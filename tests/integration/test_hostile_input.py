"""Hostile values in headers, parameters and files: each gets the same documented response on both databases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.integration.support.apis import api
from tests.integration.support.concepts import tiny_concept
from tests.integration.support.photos import REQUEST, create, parts, photo
from zoodip_core.embedding_file import read_embedding_file, write_embedding_file
from zoodip_core.service.settings import ServiceSettings

GENERATIONS = "/v1/generations"
_KEYS = ['a"b', '"', 'a"', "a\\b", "\\u00e9", "é", "😀", "a.b", "$", "[0]", "0", "'", "a]b", " ", "%", "a\tb"]


def test_metadata_filter_with_any_key(client: TestClient) -> None:
    """A filter finds exactly the job with its key and value, whatever characters they contain."""
    value = 'v"\\é😀'
    created = {}
    for key in _KEYS:
        response = client.post(GENERATIONS, json={"prompt": "a dog", "metadata": {key: value}})
        created[key] = response.json()["id"]
    for key, job_id in created.items():
        found = client.get(GENERATIONS, params={f"metadata[{key}]": value})
        assert (found.status_code, [job["id"] for job in found.json()["data"]]) == (200, [job_id]), key
        assert client.get(GENERATIONS, params={f"metadata[{key}]": "other"}).json()["data"] == []


@pytest.mark.parametrize("number", ["9" * 200, "9" * 5_000, str(2**31), "-1", "1e3", "x"])
def test_numbers_in_paths(client: TestClient, settings: ServiceSettings, number: str) -> None:
    """An impossible number of a picture gets 422, and no path of the server."""
    generation = client.post(GENERATIONS, json={"prompt": "a dog"}).headers["Location"]
    personalization = create(client).headers["Location"]
    for path in (f"{generation}/images/{number}.png", f"{personalization}/previews/{number}.png"):
        response = client.get(path)
        assert response.status_code == 422
        assert str(settings.data_dir) not in response.text


@pytest.mark.parametrize("path", ["/v1/concepts", GENERATIONS, "/v1/personalizations"])
@pytest.mark.parametrize("query", ["limit=1" + "0" * 30, "limit=" + "9" * 5_000, "after=" + "a" * 5_000])
def test_huge_parameters(client: TestClient, path: str, query: str) -> None:
    """Huge numbers and texts in a query get 422."""
    assert client.get(f"{path}?{query}").status_code == 422


@pytest.mark.parametrize(
    "identifier", ["per_" + "0" * 5_000, "per_%00", "per_%ED%A0%80", "..%2F..%2Fetc", "%22"]
)
def test_identifiers_in_paths(client: TestClient, identifier: str) -> None:
    """A malformed id gets 404 or 422 from each route that takes one."""
    for path in ("/v1/personalizations", GENERATIONS, "/v1/concepts"):
        assert client.get(f"{path}/{identifier}").status_code in (404, 422)
        assert client.delete(f"{path}/{identifier}").status_code in (404, 422)


@pytest.mark.parametrize("precision", ["x" * 21, "int8\0", "int8\n", "", "\ud800", 8])
def test_import_with_an_impossible_precision(client: TestClient, catalog: Path, precision: object) -> None:
    """A precision that the database cannot store gets 422, and nothing is stored."""
    vectors, metadata = read_embedding_file(tiny_concept(catalog))
    header = json.loads(metadata["zoodip"])
    header["provenance"] = {
        "initializer": "dog",
        "settings": {},
        "seed": 0,
        "steps": 1,
        "forwards": 1,
        "precision": precision,
        "images": 1,
        "fixed_loss_start": None,
        "fixed_loss_end": None,
        "versions": {},
        "created_at": "2026-01-01T00:00:00Z",
    }
    content = write_embedding_file(vectors, {"zoodip": json.dumps(header)})
    response = client.post("/v1/concepts", files={"file": ("a.safetensors", content)})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_artifact")
    assert "provenance.precision" in response.json()["detail"] or precision == "\ud800"
    assert client.get("/v1/concepts").json()["data"] == []


def test_head_is_answered_on_each_get_route(client: TestClient) -> None:
    """HEAD returns the status and the headers of GET without the body, also for streams and unknown paths."""
    job = create(client).headers["Location"]
    paths = [job, "/v1/personalizations", "/v1/concepts", GENERATIONS, "/v1/base-models", "/livez", "/readyz"]
    for path in (*paths, "/metrics", "/docs", "/openapi.json", "/v1/unknown"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["Content-Type"] == got.headers["Content-Type"]
        if path != "/metrics":  # its size changes with each request
            assert head.headers["Content-Length"] == got.headers["Content-Length"], path
    events = client.head(f"{job}/events")
    assert (events.status_code, events.content) == (200, b"")
    assert events.headers["Content-Type"].startswith("text/event-stream")
    assert client.head(f"{job}/cancel").status_code == 405
    assert 'method="HEAD",route="/livez",status="200"} 1.0' in client.get("/metrics").text


def test_head_of_a_stream_is_no_failure(settings: ServiceSettings, tmp_path: Path) -> None:
    """A server answers HEAD of an event stream at once, and logs no failure."""
    log = tmp_path / "api.log"
    with api(settings, log) as url, httpx2.Client(base_url=url, timeout=60) as client:
        data = {"request": json.dumps(REQUEST)}
        created = client.post("/v1/personalizations", files=parts(photo()), data=data)
        for _ in range(3):
            response = client.head(f"{created.headers['Location']}/events")
            assert (response.status_code, response.content) == (200, b"")
    assert log.read_text() == ""


@pytest.mark.parametrize("path", ["/v1/concepts/", "/v1/personalizations/", "/docs/", "//evil.example/docs/"])
def test_no_redirect_contains_the_host_header(client: TestClient, path: str) -> None:
    """A path with an additional slash gets 404, not a redirect to a host that the client names."""
    response = client.get(path, headers={"Host": "localhost:1"}, follow_redirects=False)
    assert (response.status_code, "location" in response.headers) == (404, False)


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_json_without_its_content_type(client: TestClient, content_type: str | None) -> None:
    """The error of a JSON body with another content type names the header; `curl -d` sends such a body."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = client.post(GENERATIONS, content=b'{"prompt": "a dog"}', headers=headers)
    message = f"Content-Type: got {content_type or 'nothing'}; expected application/json"
    assert response.status_code == 422
    assert response.json()["errors"] == [{"field": "Content-Type", "message": message}]


@pytest.mark.parametrize("body", ["[]", "null", '"a dog"', "5"])
def test_json_of_another_type(client: TestClient, body: str) -> None:
    """The error of a JSON body that is no object says so."""
    response = client.post(GENERATIONS, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.json()["detail"].endswith("; expected an object")


def test_allow_lists_all_methods(client: TestClient) -> None:
    """The `Allow` header of a 405 has each method of the path, also those of other routes."""
    job = create(client).headers["Location"]
    for path, allowed in (
        ("/v1/concepts", "GET, HEAD, POST"),
        (GENERATIONS, "GET, HEAD, POST"),
        (job, "DELETE, GET, HEAD"),
        (f"{job}/cancel", "POST"),
        ("/livez", "GET, HEAD"),
    ):
        for method in ("OPTIONS", "PUT", "TRACE"):
            response = client.request(method, path)
            assert (response.status_code, response.headers["Allow"]) == (405, allowed), path
    assert client.head(f"{job}/cancel").headers["Allow"] == "POST"


def test_storage_errors_contain_no_path_of_the_server(client: TestClient, settings: ServiceSettings) -> None:
    """The response of a storage failure does not show where the server stores its objects."""
    folder = settings.data_dir / "objects"
    folder.rmdir()
    folder.write_text("a file instead of the folder")
    response: Any = create(client)
    assert (response.status_code, response.json()["code"]) == (503, "storage_failed")
    assert str(settings.data_dir) not in response.text


def test_local_service_serves_local_names_only(client: TestClient) -> None:
    """Names that only tests use are not local."""
    for host in ("testserver", "localhost.evil.example", "127.0.0.1.nip.io", ""):
        assert client.get("/v1/concepts", headers={"Host": host}).status_code == 401
