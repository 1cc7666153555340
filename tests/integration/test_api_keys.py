"""API keys, scopes, quotas, rate limits and ownership; health checks and metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from tests.integration.support.concepts import tiny_concept
from tests.integration.support.keys import make_key
from tests.integration.support.photos import create
from zoodip_core.service import worker_registry
from zoodip_core.service.database import Database
from zoodip_core.service.settings import ServiceSettings


@pytest.fixture
def remote_client(settings: ServiceSettings, client: TestClient) -> Iterator[TestClient]:
    """Client of the same API on another machine."""
    with TestClient(
        create_app(settings), base_url="http://api.example.org", client=("192.0.2.7", 1)
    ) as remote_client:
        yield remote_client


def test_without_keys_only_local_requests_are_served(client: TestClient, remote_client: TestClient) -> None:
    """Requests from another machine, for another host name (DNS rebinding) and from another origin are refused."""
    assert client.get("/v1/personalizations").status_code == 200
    assert remote_client.get("/v1/personalizations").status_code == 401
    rebound = client.get("/v1/personalizations", headers={"Host": "evil.example"})
    assert rebound.status_code == 401
    page = client.get("/v1/personalizations", headers={"Origin": "https://evil.example"})
    assert (page.status_code, page.json()["code"]) == (403, "forbidden")
    assert client.get("/livez").status_code == 200


def test_with_keys_every_request_needs_one(
    client: TestClient, remote_client: TestClient, settings: ServiceSettings
) -> None:
    """A missing or wrong key gets 401 with the challenge of RFC 9110. A valid key works from another machine."""
    valid = make_key(settings)
    missing = client.get("/v1/personalizations")
    assert (missing.status_code, missing.json()["code"]) == (401, "unauthorized")
    assert missing.headers["WWW-Authenticate"] == "Bearer"
    wrong = client.get("/v1/personalizations", headers={"Authorization": "Bearer zd_wrong"})
    assert wrong.status_code == 401
    assert remote_client.get("/v1/personalizations", headers=valid).status_code == 200


def test_scopes_limit_a_key(client: TestClient, settings: ServiceSettings) -> None:
    """A key with the scope `read` can read but not write."""
    reader = make_key(settings, scopes=("read",))
    assert client.get("/v1/concepts", headers=reader).status_code == 200
    refused = create(client, headers=reader)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_metrics_need_the_admin_scope(
    client: TestClient, remote_client: TestClient, settings: ServiceSettings
) -> None:
    """Without keys, only this machine can read metrics. With keys, the scopes `read` and `write` are not enough."""
    assert client.get("/metrics").status_code == 200
    assert remote_client.get("/metrics").status_code == 401
    user, admin = make_key(settings), make_key(settings, scopes=("admin",))
    refused = client.get("/metrics", headers=user)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "'admin'" in refused.json()["detail"]
    assert "zoodip_jobs" in remote_client.get("/metrics", headers=admin).text
    assert client.get("/v1/concepts", headers=admin).status_code == 403


def test_jobs_of_other_owners_are_not_accessible(client: TestClient, settings: ServiceSettings) -> None:
    """Every route returns 404 for a job of another owner, and lists exclude it. Keys of one owner share jobs."""
    alice, bob = make_key(settings, owner="alice"), make_key(settings, owner="bob")
    second = make_key(settings, owner="alice")
    url = create(client, headers=alice).headers["Location"]
    calls = [
        client.get(url, headers=bob),
        client.get(f"{url}/events", headers=bob),
        client.get(f"{url}/previews/10.png", headers=bob),
        client.delete(url, headers=bob),
        *(client.post(f"{url}/{verb}", headers=bob) for verb in ("cancel", "pause", "resume")),
    ]
    assert [call.status_code for call in calls] == [404] * len(calls)
    assert client.get("/v1/personalizations", headers=bob).json()["data"] == []
    assert client.get(url, headers=second).json()["status"] == "queued"
    assert create(client, headers=bob).status_code == 202  # the same token, another owner


def test_concepts_of_other_owners_are_not_accessible(
    client: TestClient, settings: ServiceSettings, catalog: Path
) -> None:
    """An owner cannot read, export, delete or draw a concept of another owner, nor access its generations."""
    alice, bob = make_key(settings, owner="alice"), make_key(settings, owner="bob")
    file = {"file": ("c.safetensors", tiny_concept(catalog))}
    concept = client.post("/v1/concepts", files=file, headers=alice).headers["Location"]
    generation = client.post("/v1/generations", json={"prompt": "a <my-dog>"}, headers=alice)
    assert generation.status_code == 202
    url = generation.headers["Location"]
    calls = [
        client.get(concept, headers=bob),
        client.get(f"{concept}/embedding", headers=bob),
        client.delete(concept, headers=bob),
        client.get(url, headers=bob),
        client.get(f"{url}/images/0.png", headers=bob),
        client.post(f"{url}/cancel", headers=bob),
        client.delete(url, headers=bob),
    ]
    assert [(call.status_code, call.json()["code"]) for call in calls] == [(404, "not_found")] * len(calls)
    foreign = client.post("/v1/generations", json={"prompt": "a <my-dog>"}, headers=bob)
    assert (foreign.status_code, foreign.json()["code"]) == (422, "unknown_token")
    for path in ("/v1/concepts", "/v1/generations"):
        assert client.get(path, headers=bob).json()["data"] == []
        assert len(client.get(path, headers=alice).json()["data"]) == 1
    assert client.get(url, headers=alice).json()["status"] == "queued"


def test_quota_and_rate_limit(client: TestClient, settings: ServiceSettings) -> None:
    """A full quota and a reached rate limit get 429 with different codes; the rate limit sets Retry-After."""
    key = make_key(settings, max_active_jobs=1)
    assert create(client, headers=key).status_code == 202
    full = create(client, token="<other>", headers=key)
    assert (full.status_code, full.json()["code"]) == (429, "quota_exceeded")
    limited = make_key(settings, rate_per_minute=2)
    responses = [client.get("/v1/concepts", headers=limited) for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert responses[2].json()["code"] == "rate_limited"
    assert 1 <= int(responses[2].headers["Retry-After"]) <= 30


def test_concept_quota_counts_unfinished_personalizations(
    client: TestClient, settings: ServiceSettings
) -> None:
    """A queued personalization counts. `replace` needs no quota for an existing token; a new token always does."""
    key = make_key(settings, max_concepts=2)
    content = tiny_concept(settings.base_models or Path())

    def imported(**fields: str) -> int:
        files = {"file": ("x.safetensors", content)}
        return client.post("/v1/concepts", files=files, data=fields, headers=key).status_code

    assert imported() == 201
    assert create(client, token="<second>", headers=key).status_code == 202
    for more in ({"token": "<third>"}, {"token": "<third>", "replace": True}):
        full = create(client, headers=key, **more)
        assert (full.status_code, full.json()["code"]) == (429, "quota_exceeded")
    assert imported(token="<third>") == 429
    assert imported(replace="true") == 201
    assert create(client, replace=True, headers=key).status_code == 202


def test_readiness_needs_a_ready_worker(client: TestClient, settings: ServiceSettings) -> None:
    """`/readyz` says what it waits for, and returns 200 with a worker, whose counters `/metrics` contains."""
    unready = client.get("/readyz")
    assert unready.status_code == 503
    assert unready.json()["waits_for"].startswith("a worker: none has reported within")
    database = Database(settings.database)
    with database.write() as connection:
        worker_registry.report(connection, "w0", time.time(), draining=True, stats={})
    assert client.get("/readyz").json()["waits_for"] == "a worker that takes jobs: 1 draining"
    with database.write() as connection:
        stats = {"counters": {"steps": 12}, "gauges": {"rows_per_forward": 9.0}, "stages": {"step": 1.5}}
        worker_registry.report(connection, "w1", time.time(), draining=False, stats=stats)
    database.close()
    assert client.get("/readyz").json() == {"status": "ok", "workers": 1, "waits_for": None}
    create(client)
    text = client.get("/metrics").text
    assert 'zoodip_jobs{kind="personalization",status="queued"} 1.0' in text
    assert 'zoodip_worker_steps_total{worker="w1"} 12.0' in text
    assert 'zoodip_stage_seconds_total{stage="step",worker="w1"} 1.5' in text
    assert 'zoodip_http_requests_total{method="POST",route="/v1/personalizations",status="202"} 1.0' in text


def test_unknown_methods_share_a_metrics_label(client: TestClient) -> None:
    """A label for each method would let clients fill the memory."""
    for method in ("FOO", "BAR"):
        assert client.request(method, "/livez").status_code == 405
    text = client.get("/metrics").text
    assert 'method="other",route="/livez",status="405"} 2.0' in text
    assert "FOO" not in text


def test_responses_have_request_ids_and_problem_documents(client: TestClient) -> None:
    """A valid X-Request-Id is returned, an invalid one is replaced. 404 and 405 are problem documents."""
    assert client.get("/livez", headers={"X-Request-Id": "my-id"}).headers["X-Request-Id"] == "my-id"
    assert len(client.get("/livez", headers={"X-Request-Id": "bad id!"}).headers["X-Request-Id"]) == 16
    for response, code in (
        (client.get("/v2"), "not_found"),
        (client.put("/v1/concepts"), "method_not_allowed"),
    ):
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == code


def test_base_models_are_listed(client: TestClient) -> None:
    """The list contains the facts that are known without loading a model."""
    models = {model["id"]: model for model in client.get("/v1/base-models").json()["data"]}
    assert models["tiny"]["default"]
    assert models["tiny"]["side_px"] == 64
    assert models["tiny"]["family"] == "sd1"
    assert len(models["tiny"]["fingerprint"]) == 64
