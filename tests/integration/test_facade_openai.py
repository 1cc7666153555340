"""OpenAI façade without a worker: models, errors, warnings, ownership, and requests that end without images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from fastapi.testclient import TestClient

from api.facades import drawing
from api.facades.openai import image_stream
from tests.integration.support.apis import api_thread
from tests.integration.support.concepts import tiny_concept
from tests.integration.support.keys import make_key
from tests.integration.support.processes import wait_until
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import leases, store
from zoodip_core.service.jobs.records import JobSnapshot
from zoodip_core.service.jobs.snapshots import list_page
from zoodip_core.service.jobs.states import JobKind, Status
from zoodip_core.service.settings import ServiceSettings

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def database(settings: ServiceSettings) -> Iterator[Database]:
    """Database of the service."""
    database = Database(settings.database)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests wait for a tenth of a second only."""
    for module in (drawing, image_stream):
        monkeypatch.setattr(module, "MAX_WAIT_S", 0.1)


def _openai(client: TestClient, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url="http://127.0.0.1/v1", api_key=key, http_client=client, max_retries=0)


def _import(client: TestClient, catalog: Path, **fields: str) -> str:
    created = client.post(
        "/v1/concepts", files={"file": ("x.safetensors", tiny_concept(catalog))}, data=fields
    )
    assert created.status_code == 201, created.text
    return str(created.json()["id"])


def _generations(database: Database, owner: str = "local") -> list[JobSnapshot]:
    with database.read() as connection:
        return list_page(connection, owner, JobKind.GENERATION)[0]


def test_models_are_base_models_and_concepts(client: TestClient, catalog: Path) -> None:
    """A concept is listed by token; one whose token means another concept is listed by id. Each name works."""
    other = _import(client, catalog, base_model="other", allow_model_mismatch="true")
    mine = _import(client, catalog)
    official = _openai(client)
    assert [model.id for model in official.models.list()] == ["emoji", "tiny", "other", "<my-dog>", other]
    for name, concept in (("<my-dog>", mine), ("my-dog", mine), (mine, mine), (other, other)):
        model = official.models.retrieve(name).to_dict()
        assert (model["id"], model["concept_id"]) == (name, concept)
    assert official.models.retrieve("dall-e-3").id == "dall-e-3"
    with pytest.raises(openai.NotFoundError) as caught:
        official.models.retrieve("gpt-9")
    assert caught.value.body == {
        "message": "The model 'gpt-9' does not exist.",
        "type": "not_found_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize(
    ("request_body", "status", "param", "code"),
    [
        ({"prompt": ""}, 400, "prompt", "invalid_request"),
        ({"prompt": "a dog", "n": 11}, 400, "n", "invalid_request"),
        ({"prompt": "a dog", "size": "big"}, 400, "size", "invalid_settings"),
        ({"prompt": "a dog", "output_format": "gif"}, 400, "output_format", "invalid_request"),
        ({"prompt": "a dog", "partial_images": 4, "stream": True}, 400, "partial_images", "invalid_request"),
        ({"prompt": "a <my-cat>"}, 400, "prompt", "unknown_token"),
        ({"prompt": "a dog", "model": "con_000000000000000000000000"}, 404, "model", "model_not_found"),
        ({"prompt": "a \u0000 dog"}, 400, None, "invalid_request"),
    ],
)
def test_invalid_requests_have_the_shape_of_openai(
    client: TestClient, request_body: dict[str, Any], status: int, param: str | None, code: str
) -> None:
    """Each invalid request gets OpenAI's status and error object; the same errors of `/v1` stay problem documents."""
    answer = client.post("/v1/images/generations", json=request_body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    native = client.post("/v1/generations", json={"prompt": ""})
    assert (native.status_code, native.json()["code"]) == (422, "invalid_request")


def test_keys_scopes_and_quotas_hold(client: TestClient, settings: ServiceSettings, catalog: Path) -> None:
    """Missing key, missing scope, another owner's concept and an exhausted quota get OpenAI's errors."""
    alice = make_key(settings, owner="alice", scopes=("read", "write"), max_active_jobs=0)
    bob = make_key(settings, owner="bob", scopes=("read",))
    files = {"file": ("x.safetensors", tiny_concept(catalog))}
    concept = client.post("/v1/concepts", files=files, headers=alice).json()["id"]
    with pytest.raises(openai.AuthenticationError) as unknown:
        _openai(client, "zd_wrong").models.list()
    assert unknown.value.code == "invalid_api_key"
    official = _openai(client, bob["Authorization"].removeprefix("Bearer "))
    with pytest.raises(openai.PermissionDeniedError):
        official.images.generate(prompt="a dog")
    with pytest.raises(openai.NotFoundError):
        official.models.retrieve(concept)
    with pytest.raises(openai.RateLimitError) as quota:
        _openai(client, alice["Authorization"].removeprefix("Bearer ")).images.generate(prompt="a dog")
    assert quota.value.code == "quota_exceeded"
    assert quota.value.response.headers["Retry-After"] == "60"


@pytest.mark.usefixtures("impatient")
def test_fields_without_effect_are_listed(client: TestClient, database: Database) -> None:
    """Each field that cannot be honored has a warning, which the generation keeps; the others have none."""
    body = {
        "prompt": "a photo of a dog",
        "size": "1024x512",
        "quality": "high",
        "style": "vivid",
        "background": "transparent",
        "moderation": "low",
        "output_compression": 10,
        "user": "u-1",
        "seed": 3,
    }
    assert client.post("/v1/images/generations", json=body).status_code == 504
    (job,) = _generations(database)
    assert [(warning["code"], warning["field"]) for warning in job.request["warnings"]] == [
        ("value_adjusted", "size"),
        ("field_ignored", "quality"),
        ("field_ignored", "background"),
        ("field_ignored", "style"),
        ("field_ignored", "seed"),
        ("field_ignored", "output_compression"),
    ]
    assert (job.request["settings"]["width"], job.request["settings"]["height"]) == (88, 40)
    assert job.metadata == {"api": "openai", "user": "u-1"}
    plain = {"prompt": "a photo of a dog", "size": "auto", "quality": "auto", "background": "auto", "n": None}
    client.post("/v1/images/generations", json=plain)
    assert _generations(database)[0].request["warnings"] == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("stream", [False, True])
def test_generation_that_takes_too_long_is_cancelled(
    client: TestClient, database: Database, stream: bool
) -> None:
    """At the deadline the client gets an error, and no worker draws for nobody."""
    with pytest.raises(openai.APIError, match="not ready within") as caught:
        list(_openai(client).images.generate(prompt="a dog", stream=stream))
    assert caught.value.code == "gateway_timeout"
    assert [job.status for job in _generations(database)] == [Status.CANCELLED]


@pytest.mark.usefixtures("impatient")
def test_idempotency_key_creates_one_generation(client: TestClient, database: Database) -> None:
    """A repeated key means the same generation, although each new request has another seed."""
    headers = {"Idempotency-Key": "one"}
    first = client.post("/v1/images/generations", json={"prompt": "a dog"}, headers=headers)
    again = client.post("/v1/images/generations", json={"prompt": "a dog"}, headers=headers)
    other = client.post("/v1/images/generations", json={"prompt": "a cat"}, headers=headers)
    assert (first.status_code, again.status_code) == (504, 409)  # the generation is cancelled
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_mismatch")
    assert len(_generations(database)) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_disconnected_client_cancels_the_generation(
    settings: ServiceSettings, database: Database, stream: bool
) -> None:
    """When the client closes the connection, the generation is cancelled."""
    body = {"prompt": "a dog", "stream": stream}
    with api_thread(settings) as url:
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{url}/v1/images/generations", json=body, timeout=0.5)
        wait_until(lambda: [job.status for job in _generations(database)] == [Status.CANCELLED], "the end")


@pytest.mark.parametrize("stream", [False, True])
def test_failed_generation_is_an_error(settings: ServiceSettings, database: Database, stream: bool) -> None:
    """The error of a failed generation reaches the client with its code, also in a stream that has begun."""
    error = {"code": "out_of_memory", "message": "Not even one row fits.", "retryable": True}
    with (
        api_thread(settings) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as official,
        ThreadPoolExecutor(1) as pool,
    ):
        drawing_now = pool.submit(
            lambda: list(official.images.generate(prompt="a dog", stream=stream))  # type: ignore[call-overload]
        )
        wait_until(lambda: bool(_generations(database)), "the generation")
        with database.write() as connection:
            job_id = _generations(database)[0].id
            leases.claim(connection, job_id, "w1", time.time(), 30.0)
            store.transition(connection, job_id, Status.FAILED, time.time(), values={"error": error})
        with pytest.raises(openai.APIError) as caught:
            drawing_now.result(30)
    assert (caught.value.code, caught.value.message.partition(" - ")[0]) in {
        ("out_of_memory", "Not even one row fits."),
        ("out_of_memory", "Error code: 503"),
    }
