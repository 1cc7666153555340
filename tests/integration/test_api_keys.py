"""Keys, scopes, quotas, limits, ownership; health and metrics."""

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
def stranger(settings: ServiceSettings, client: TestClient) -> Iterator[TestClient]:
    """The same API called from another machine."""
    with TestClient(
        create_app(settings), base_url="http://api.example.org", client=("192.0.2.7", 1)
    ) as stranger:
        yield stranger


def test_without_keys_only_this_machine_is_served(client: TestClient, stranger: TestClient) -> None:
    """Another machine, another host name (DNS rebinding) and another site's page are refused."""
    assert client.get("/v1/personalizations").status_code == 200
    assert stranger.get("/v1/personalizations").status_code == 401
    rebound = client.get("/v1/personalizations", headers={"Host": "evil.example"})
    assert rebound.status_code == 401
    page = client.get("/v1/personalizations", headers={"Origin": "https://evil.example"})
    assert (page.status_code, page.json()["code"]) == (403, "forbidden")
    assert client.get("/livez").status_code == 200


def test_with_keys_everyone_needs_one(
    client: TestClient, stranger: TestClient, settings: ServiceSettings
) -> None:
    """No key, a wrong key and a good key; RFC 9110's challenge; another machine may come."""
    good = make_key(settings)
    none = client.get("/v1/personalizations")
    assert (none.status_code, none.json()["code"]) == (401, "unauthorized")
    assert none.headers["WWW-Authenticate"] == "Bearer"
    wrong = client.get("/v1/personalizations", headers={"Authorization": "Bearer zd_wrong"})
    assert wrong.status_code == 401
    assert stranger.get("/v1/personalizations", headers=good).status_code == 200


def test_scopes_bound_what_a_key_does(client: TestClient, settings: ServiceSettings) -> None:
    """A reading key reads and does not write."""
    reader = make_key(settings, scopes=("read",))
    assert client.get("/v1/concepts", headers=reader).status_code == 200
    refused = create(client, headers=reader)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_metrics_of_everyone_need_an_admin(
    client: TestClient, stranger: TestClient, settings: ServiceSettings
) -> None:
    """Without keys this machine alone reads them; with keys a key that may read and write its own does not."""
    assert client.get("/metrics").status_code == 200
    assert stranger.get("/metrics").status_code == 401
    user, operator = make_key(settings), make_key(settings, scopes=("admin",))
    refused = client.get("/metrics", headers=user)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "'admin'" in refused.json()["detail"]
    assert "zoodip_jobs" in stranger.get("/metrics", headers=operator).text
    assert client.get("/v1/concepts", headers=operator).status_code == 403


def test_two_users_cannot_see_or_touch_each_other(client: TestClient, settings: ServiceSettings) -> None:
    """Every route answers 404 for another's job, and lists stay apart; keys of one owner share."""
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


def test_two_users_cannot_use_each_others_concepts(
    client: TestClient, settings: ServiceSettings, catalogue: Path
) -> None:
    """Another's concept cannot be seen, exported, deleted or drawn, nor its pictures be seen or cancelled."""
    alice, bob = make_key(settings, owner="alice"), make_key(settings, owner="bob")
    file = {"file": ("c.safetensors", tiny_concept(catalogue))}
    concept = client.post("/v1/concepts", files=file, headers=alice).headers["Location"]
    drawn = client.post("/v1/generations", json={"prompt": "a <my-dog>"}, headers=alice)
    assert drawn.status_code == 202
    url = drawn.headers["Location"]
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
    stolen = client.post("/v1/generations", json={"prompt": "a <my-dog>"}, headers=bob)
    assert (stolen.status_code, stolen.json()["code"]) == (422, "unknown_token")
    for path in ("/v1/concepts", "/v1/generations"):
        assert client.get(path, headers=bob).json()["data"] == []
        assert len(client.get(path, headers=alice).json()["data"]) == 1
    assert client.get(url, headers=alice).json()["status"] == "queued"


def test_quotas_and_rates(client: TestClient, settings: ServiceSettings) -> None:
    """A full quota and a fast client get 429 with Retry-After and distinct codes."""
    key = make_key(settings, max_active_jobs=1)
    assert create(client, headers=key).status_code == 202
    full = create(client, token="<other>", headers=key)
    assert (full.status_code, full.json()["code"]) == (429, "quota_exceeded")
    fast = make_key(settings, rate_per_minute=2)
    answers = [client.get("/v1/concepts", headers=fast) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["code"] == "rate_limited"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 30


def test_a_quota_of_concepts_counts_what_is_being_learned(
    client: TestClient, settings: ServiceSettings
) -> None:
    """A job takes a place from the start, `replace` none if the name is there, and a new name always one."""
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


def test_readiness_needs_a_worker_that_looks_for_work(client: TestClient, settings: ServiceSettings) -> None:
    """503 without one, 200 with one, and its numbers in /metrics."""
    assert client.get("/readyz").status_code == 503
    database = Database(settings.database)
    with database.write() as connection:
        stats = {"counters": {"steps": 12}, "gauges": {"rows_per_forward": 9.0}, "stages": {"step": 1.5}}
        worker_registry.report(connection, "w1", time.time(), draining=False, stats=stats)
    database.close()
    assert client.get("/readyz").json() == {"status": "ok", "workers": 1}
    create(client)
    text = client.get("/metrics").text
    assert 'zoodip_jobs{kind="personalization",status="queued"} 1.0' in text
    assert 'zoodip_worker_steps_total{worker="w1"} 12.0' in text
    assert 'zoodip_stage_seconds_total{stage="step",worker="w1"} 1.5' in text
    assert 'zoodip_http_requests_total{method="POST",route="/v1/personalizations",status="202"} 1.0' in text


def test_methods_that_a_client_makes_up_are_counted_as_one(client: TestClient) -> None:
    """A label for each would fill the memory."""
    for method in ("FOO", "BAR"):
        assert client.request(method, "/livez").status_code == 405
    text = client.get("/metrics").text
    assert 'method="other",route="/livez",status="405"} 2.0' in text
    assert "FOO" not in text


def test_every_answer_has_an_id_and_unknown_paths_are_problems(client: TestClient) -> None:
    """X-Request-Id comes back; 404 and 405 are problem documents too."""
    assert client.get("/livez", headers={"X-Request-Id": "my-id"}).headers["X-Request-Id"] == "my-id"
    assert len(client.get("/livez", headers={"X-Request-Id": "bad id!"}).headers["X-Request-Id"]) == 16
    for response, code in (
        (client.get("/v2"), "not_found"),
        (client.put("/v1/concepts"), "method_not_allowed"),
    ):
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == code


def test_base_models_are_listed(client: TestClient) -> None:
    """The catalogue, with what is known without loading a model."""
    models = {model["id"]: model for model in client.get("/v1/base-models").json()["data"]}
    assert models["tiny"]["default"]
    assert models["tiny"]["side_px"] == 64
    assert models["tiny"]["family"] == "sd1"
    assert len(models["tiny"]["fingerprint"]) == 64
