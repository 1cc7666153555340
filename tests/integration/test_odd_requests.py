"""Requests that no client sends by intent: each gets an answer of the contract, and none a fault of the service."""

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
from api.key_cache import FRESH_S
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
def test_queries_that_no_database_takes(client: TestClient, path: str, query: str) -> None:
    """422 with the field, on every list that knows it."""
    answer = client.get(f"{path}?{query}")
    if path == "/v1/concepts" and query.startswith("metadata"):
        assert answer.status_code == 200
        return
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0].partition("[")[0]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "["}, 401),
        ({"Host": "127.0.0.1", "Origin": "http://["}, 403),
        ({"Authorization": "Bearer "}, 200),
        (
            {"Authorization": "Bearer " + "x" * 5_000},
            200,
        ),  # no keys: it is a client's way of sending something
        ({"Last-Event-ID": "x"}, 200),
    ],
)
def test_headers_that_cannot_be_read(client: TestClient, headers: dict[str, str], status: int) -> None:
    """They are refused, or mean nothing."""
    assert client.get(PERSONALIZATIONS, headers=headers).status_code == status


def test_a_boundary_without_end(client: TestClient) -> None:
    """400, whatever the parser of forms calls it."""
    headers = {"Content-Type": "multipart/form-data; boundary=" + "b" * 2_000}
    for path in (PERSONALIZATIONS, "/v1/concepts"):
        answer = client.post(path, content=b"x", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("depth", [900, 940, 950, 960, 1_000, _DEEP])
def test_json_nested_beyond_measure(client: TestClient, depth: int) -> None:
    """400 where it cannot be parsed, 422 where it can."""
    deep = "[" * depth + "]" * depth
    drawn = client.post("/v1/generations", content=f'{{"prompt": "a dog", "metadata": {deep}}}')
    assert drawn.status_code in (400, 422)
    request = f'{{"token": "<a>", "initializer": "dog", "settings": {{"n": {deep}}}}}'
    learned = client.post(PERSONALIZATIONS, files=parts(photo()), data={"request": request})
    assert learned.status_code == 422


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"t_high": 5_000}, "settings.t_high"),
        ({"t_low": 10**25}, "settings.t_low"),
        ({"measure_every": 10**400}, "settings.measure_every"),
        ({"checkpoint_every": 101}, "settings.checkpoint_every"),
        ({"steps": 1e999}, "settings.steps"),
    ],
)
def test_settings_that_cannot_run(client: TestClient, asked: dict[str, Any], field: str) -> None:
    """What would fail in the worker, or cost more than a hundred steps in a crash, is refused at once."""
    body = json.dumps({**REQUEST, "settings": asked})
    for query in ("", "?validate_only=true"):
        answer = client.post(PERSONALIZATIONS + query, files=parts(photo()), data={"request": body})
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["field"] == field


def test_an_empty_idempotency_key_is_none(client: TestClient) -> None:
    """Two requests that differ are two."""
    for token in ("<a>", "<b>"):
        assert create(client, token=token, headers={"Idempotency-Key": ""}).status_code == 202


def test_a_replay_of_what_was_deleted(client: TestClient) -> None:
    """The first answer comes again, with `Prefer: wait` too."""
    request: dict[str, Any] = {"json": {"prompt": "a dog"}, "headers": {"Idempotency-Key": "k"}}
    made = client.post("/v1/generations", **request)
    client.post(f"{made.headers['Location']}/cancel")
    assert client.delete(made.headers["Location"]).status_code == 204
    request["headers"]["Prefer"] = "wait=1"
    again = client.post("/v1/generations", **request)
    assert (again.status_code, again.json()["id"]) == (202, made.json()["id"])


def test_one_code_for_a_body_that_is_too_large(client: TestClient) -> None:
    """Announced or not."""
    body = b'{"prompt": "' + b"a" * 100_000 + b'"}'
    announced = client.post("/v1/generations", content=body)
    chunked = client.post("/v1/generations", content=iter([body[:1_000], body[1_000:]]))
    for answer in (announced, chunked):
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_fault_of_the_service_names_the_request(settings: ServiceSettings) -> None:
    """A problem document with the id under which the log has it."""
    app = create_app(settings)

    @app.get("/fault")
    def fault() -> None:
        raise ZeroDivisionError

    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        answer = client.get("/fault", headers={"X-Request-Id": "mine"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["X-Request-Id"] == "mine"
    assert answer.headers["content-type"] == "application/problem+json"


@contextmanager
def _files_up_to(size_bytes: int) -> Iterator[None]:
    """The kernel refuses what would make a file of this process longer (EFBIG), as a full disk does (ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_for_uploads(client: TestClient, settings: ServiceSettings) -> None:
    """503 storage_failed, and nothing is made."""
    with _files_up_to(10_000):
        answer = create(client, photo((900, 900)) + b"\x00" * 50_000)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_failed")
    assert "Retry-After" in answer.headers
    assert client.get(PERSONALIZATIONS).json()["data"] == []
    assert ObjectStore(settings.object_store).names("") == []


def test_polls_go_on_while_writers_wait(client: TestClient, settings: ServiceSettings) -> None:
    """As many as there are threads wait for a lock that one transaction holds: polls with a key are answered."""
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
            answers = [pool.submit(cancel) for _ in range(45)]
            for _ in answers:
                waiting.acquire()
            for _ in range(3):
                assert client.get(url).json()["status"] == "queued"
                time.sleep(FRESH_S)  # the key is asked for anew
        assert {answer.result() for answer in answers} == {200}
    database.close()


def test_a_damaged_base_model_does_not_hide_the_others(
    settings: ServiceSettings, catalogue: Path, tmp_path: Path
) -> None:
    """The list shows it without what cannot be told; one that only workers have keeps its family's settings."""
    damaged = shutil.copytree(catalogue.parent / "tiny", tmp_path / "damaged")
    for weights in (damaged / "vae").glob("*.safetensors"):
        weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    listed = tmp_path / "catalogue.toml"
    listed.write_text(
        f'[[base_models]]\nname = "tiny"\npath = "{catalogue.parent / "tiny"}"\nprecision = "fp32"\n'
        '[[base_models]]\nname = "damaged"\npath = "damaged"\n'
        '[[base_models]]\nname = "far"\nhub_id = "nobody/nothing"\nfamily = "sdxl"\n'
    )
    changed = settings.model_copy(update={"base_models": listed})
    with TestClient(create_app(changed), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        shown = {one["id"]: one for one in client.get("/v1/base-models").json()["data"]}
        assert shown["tiny"]["family"] == "sd1"
        assert (shown["damaged"]["family"], shown["damaged"]["fingerprint"]) == (None, None)
        assert (shown["far"]["family"], shown["far"]["side_px"]) == ("sdxl", None)
        resolved = create(client, url=f"{PERSONALIZATIONS}?validate_only=true", base_model="far").json()
        assert (resolved["settings"]["steps"], resolved["settings"]["t_low"]) == (20_000, 700)
