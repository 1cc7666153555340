"""Malformed requests and unusual conditions: each gets a documented response, and none an internal error."""

from __future__ import annotations

import json
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.cached_read import FRESH_S
from tests.integration.support.keys import make_key
from tests.integration.support.photos import REQUEST, create, parts, photo
from zoodip_core.service.database import Database
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

PERSONALIZATIONS = "/v1/personalizations"
_DEEP = 1_500


@pytest.mark.parametrize(
    "query", ["after=%00", "after=", "after=per_%C3%A9", "metadata[a]=%00", "metadata[%00]=a", "limit=0"]
)
@pytest.mark.parametrize("path", [PERSONALIZATIONS, "/v1/generations", "/v1/concepts"])
def test_invalid_query_parameters(client: TestClient, path: str, query: str) -> None:
    """Every list with this parameter returns 422 and names the field."""
    response = client.get(f"{path}?{query}")
    if path == "/v1/concepts" and query.startswith("metadata"):
        assert response.status_code == 200
        return
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == query.partition("=")[0].partition("[")[0]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "["}, 401),
        ({"Host": "127.0.0.1", "Origin": "http://["}, 403),
        ({"Authorization": "Bearer "}, 200),
        ({"Authorization": "Bearer " + "x" * 5_000}, 200),  # without keys, the header is ignored
        ({"Last-Event-ID": "x"}, 200),
    ],
)
def test_malformed_headers(client: TestClient, headers: dict[str, str], status: int) -> None:
    """Malformed headers are refused or ignored."""
    assert client.get(PERSONALIZATIONS, headers=headers).status_code == status


def test_long_multipart_boundary(client: TestClient) -> None:
    """A boundary that the multipart parser does not accept gets 400."""
    headers = {"Content-Type": "multipart/form-data; boundary=" + "b" * 2_000}
    for path in (PERSONALIZATIONS, "/v1/concepts"):
        response = client.post(path, content=b"x", headers=headers)
        assert (response.status_code, response.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("depth", [900, 940, 950, 960, 1_000, _DEEP])
def test_deeply_nested_json(client: TestClient, depth: int) -> None:
    """Deeply nested JSON gets 400 if it cannot be parsed, otherwise 422."""
    deep = "[" * depth + "]" * depth
    generation = client.post("/v1/generations", content=f'{{"prompt": "a dog", "metadata": {deep}}}')
    assert generation.status_code in (400, 422)
    request = f'{{"token": "<a>", "initializer": "dog", "settings": {{"n": {deep}}}}}'
    personalization = client.post(PERSONALIZATIONS, files=parts(photo()), data={"request": request})
    assert personalization.status_code == 422


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"t_high": 5_000}, "settings.t_high"),
        ({"t_low": 10**25}, "settings.t_low"),
        ({"measure_every": 10**400}, "settings.measure_every"),
        ({"checkpoint_every": 101}, "settings.checkpoint_every"),
        ({"steps": 1e999}, "settings.steps"),
    ],
)
def test_settings_that_cannot_run(client: TestClient, overrides: dict[str, Any], field: str) -> None:
    """The API refuses settings that would fail in the worker, and checkpoints more than 100 steps apart."""
    body = json.dumps({**REQUEST, "settings": overrides})
    for query in ("", "?validate_only=true"):
        response = client.post(PERSONALIZATIONS + query, files=parts(photo()), data={"request": body})
        assert response.status_code == 422, response.text
        assert response.json()["errors"][0]["field"] == field


def test_empty_idempotency_key_is_ignored(client: TestClient) -> None:
    """Two different requests with an empty key are both accepted."""
    for token in ("<a>", "<b>"):
        assert create(client, token=token, headers={"Idempotency-Key": ""}).status_code == 202


def test_replay_after_deletion(client: TestClient) -> None:
    """The first response is replayed after the job is deleted, also with `Prefer: wait`."""
    request: dict[str, Any] = {"json": {"prompt": "a dog"}, "headers": {"Idempotency-Key": "k"}}
    created = client.post("/v1/generations", **request)
    client.post(f"{created.headers['Location']}/cancel")
    assert client.delete(created.headers["Location"]).status_code == 204
    request["headers"]["Prefer"] = "wait=1"
    again = client.post("/v1/generations", **request)
    assert (again.status_code, again.json()["id"]) == (202, created.json()["id"])


def test_oversized_body_has_one_code(client: TestClient) -> None:
    """An oversized body gets the same code with and without Content-Length."""
    body = b'{"prompt": "' + b"a" * 100_000 + b'"}'
    announced = client.post("/v1/generations", content=body)
    chunked = client.post("/v1/generations", content=iter([body[:1_000], body[1_000:]]))
    for response in (announced, chunked):
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_internal_error_contains_the_request_id(settings: ServiceSettings) -> None:
    """An unexpected exception gets a problem document and the request id that the log contains."""
    app = create_app(settings)

    @app.get("/fault")
    def fault() -> None:
        raise ZeroDivisionError

    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        response = client.get("/fault", headers={"X-Request-Id": "mine"})
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert response.headers["X-Request-Id"] == "mine"
    assert response.headers["content-type"] == "application/problem+json"


@contextmanager
def _file_size_limit(size_bytes: int) -> Iterator[None]:
    """Limit the file size of this process, so that longer writes fail (EFBIG) as on a full disk (ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_for_uploads(client: TestClient, settings: ServiceSettings) -> None:
    """The response is 503 `storage_failed`, and nothing is stored."""
    with _file_size_limit(10_000):
        response = create(client, photo((900, 900)) + b"\x00" * 50_000)
    assert (response.status_code, response.json()["code"]) == (503, "storage_failed")
    assert "Retry-After" in response.headers
    assert client.get(PERSONALIZATIONS).json()["data"] == []
    assert ObjectStore(settings.object_store).names("") == []


def test_polls_succeed_while_writers_wait(client: TestClient, settings: ServiceSettings) -> None:
    """Polls with a key succeed while every request thread waits for a database lock."""
    client.headers.update(make_key(settings))
    database = Database(settings.database)
    url = create(client).headers["Location"]
    waiting = threading.Semaphore(0)

    def cancel() -> int:
        waiting.release()
        return client.post(f"{url}/cancel").status_code

    with ThreadPoolExecutor(45) as pool:
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE jobs SET total_steps = total_steps")
            cancellations = [pool.submit(cancel) for _ in range(45)]
            for _ in cancellations:
                waiting.acquire()
            for _ in range(3):
                assert client.get(url).json()["status"] == "queued"
                time.sleep(FRESH_S)  # the cached key expires
        assert {cancellation.result() for cancellation in cancellations} == {200}
    database.close()


def test_damaged_base_model_does_not_hide_others(
    settings: ServiceSettings, catalog: Path, tmp_path: Path
) -> None:
    """The list contains the damaged base model without facts. One without local files uses its family's settings."""
    damaged = shutil.copytree(catalog.parent / "tiny", tmp_path / "damaged")
    for weights in (damaged / "vae").glob("*.safetensors"):
        weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    changed_catalog = tmp_path / "catalog.toml"
    changed_catalog.write_text(
        f'[[base_models]]\nname = "tiny"\npath = "{catalog.parent / "tiny"}"\nprecision = "fp32"\n'
        '[[base_models]]\nname = "damaged"\npath = "damaged"\n'
        '[[base_models]]\nname = "far"\nhub_id = "nobody/nothing"\nfamily = "sdxl"\n'
    )
    changed = settings.model_copy(update={"base_models": changed_catalog})
    with TestClient(create_app(changed), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        models = {model["id"]: model for model in client.get("/v1/base-models").json()["data"]}
        assert models["tiny"]["family"] == "sd1"
        assert (models["damaged"]["family"], models["damaged"]["fingerprint"]) == (None, None)
        assert (models["far"]["family"], models["far"]["side_px"]) == ("sdxl", None)
        resolved = create(client, url=f"{PERSONALIZATIONS}?validate_only=true", base_model="far").json()
        assert (resolved["settings"]["steps"], resolved["settings"]["t_low"]) == (20_000, 700)
