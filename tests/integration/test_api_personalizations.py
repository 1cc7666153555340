"""HTTP API of personalizations, on both databases."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.integration.support.jobs import NOW
from tests.integration.support.photos import create, parts, photo
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import events, leases, store
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings


def _run(settings: ServiceSettings, job_id: str) -> Job:
    database = Database(settings.database)
    with database.write() as connection:
        job = leases.claim(connection, job_id, "w", NOW, 30.0)
    database.close()
    assert job is not None
    return job


def _finish(settings: ServiceSettings, job: Job, status: Status = Status.SUCCEEDED) -> None:
    database = Database(settings.database)
    with database.write() as connection:
        lease = leases.lease_of(job)
        leases.record(connection, lease, NOW, event=("progress", {"step": 10, "total_steps": 30}))
        leases.record(connection, lease, NOW, event=("preview", {"step": 10}))
        leases.finish(connection, lease, status, NOW)
    database.close()


def _objects(settings: ServiceSettings) -> list[str]:
    return ObjectStore(settings.object_store).names("")


def test_upload_creates_a_queued_job_with_clean_photos(client: TestClient, settings: ServiceSettings) -> None:
    """The response is 202 with Location and the job. The stored photos are PNG files."""
    response = create(client, photo(), photo(form="JPEG"), metadata={"team": "red"}, settings={"seed": 3})
    assert response.status_code == 202
    job = response.json()
    assert response.headers["Location"] == f"/v1/personalizations/{job['id']}"
    assert (job["object"], job["status"], job["step"], job["total_steps"]) == (
        "personalization",
        "queued",
        0,
        30,
    )
    assert job["settings"]["seed"] == 3
    assert job["settings"]["stop"] == "steps"
    assert job["queue_position"] == 0
    assert client.get(response.headers["Location"]).json() == job
    names = sorted(_objects(settings))
    assert names == [f"jobs/{job['id']}/references/0{k}.png" for k in range(2)]


def test_validate_only_creates_nothing(client: TestClient, settings: ServiceSettings) -> None:
    """The response contains settings, memory and warnings. No row or object is stored."""
    response = create(client, photo((40, 40)), url="/v1/personalizations?validate_only=true")
    assert response.status_code == 200
    body = response.json()
    assert body["settings"]["steps"] == 30
    assert body["estimated_memory_mb"] > 0
    enlarged, uniform = body["warnings"]
    assert (enlarged["code"], enlarged["field"]) == ("image_enlarged", "images")
    assert "40×40" in enlarged["message"]
    assert (uniform["code"], uniform["field"]) == ("image_uniform", "images")
    assert client.get("/v1/personalizations").json()["data"] == []
    assert _objects(settings) == []


def test_creation_returns_the_warnings_of_validate_only(client: TestClient) -> None:
    """The response of the creation, the job and the list contain the same warnings as `validate_only`."""
    validated = create(client, photo((40, 40)), url="/v1/personalizations?validate_only=true").json()
    created = create(client, photo((40, 40))).json()
    assert [warning["code"] for warning in created["warnings"]] == ["image_enlarged", "image_uniform"]
    assert created["warnings"] == validated["warnings"]
    assert client.get(f"/v1/personalizations/{created['id']}").json()["warnings"] == created["warnings"]
    assert client.get("/v1/personalizations").json()["data"][0]["warnings"] == created["warnings"]


def test_a_squashed_photo_is_not_cropped(client: TestClient) -> None:
    """A wide photo gets the warning of a crop, which `image_fit: squash` avoids."""
    url = "/v1/personalizations?validate_only=true"
    codes = [
        [
            warning["code"]
            for warning in create(client, photo((300, 100)), url=url, settings=settings).json()["warnings"]
        ]
        for settings in ({}, {"image_fit": "squash"})
    ]
    assert ["image_cropped" in each for each in codes] == [True, False]


def test_cancel_pause_resume_and_delete(client: TestClient, settings: ServiceSettings) -> None:
    """Cancel and pause are idempotent. Only an ended job can be deleted, and its photos are deleted with it."""
    url = create(client).headers["Location"]
    for _ in range(2):
        assert client.post(f"{url}/pause").json()["status"] == "paused"
    assert client.post(f"{url}/resume").json()["status"] == "queued"
    conflict = client.delete(url)
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")
    for _ in range(2):
        assert client.post(f"{url}/cancel").json()["status"] == "cancelled"
    assert client.post(f"{url}/resume").status_code == 409
    assert client.delete(url).status_code == 204
    assert client.get(url).status_code == 404
    assert _objects(settings) == []


def test_lists_have_pages_and_filters(client: TestClient) -> None:
    """Lists have pages with a cursor, and filters by status and metadata."""
    ids = [create(client, token=f"<t{n}>", metadata={"n": str(n % 2)}).json()["id"] for n in range(5)]
    page = client.get("/v1/personalizations?limit=3").json()
    assert page["object"] == "list"
    assert page["has_more"]
    rest = client.get(f"/v1/personalizations?limit=3&after={page['data'][-1]['id']}").json()
    assert sorted(job["id"] for job in page["data"] + rest["data"]) == sorted(ids)
    assert not rest["has_more"]
    assert len(client.get("/v1/personalizations?metadata[n]=1").json()["data"]) == 2
    assert client.get("/v1/personalizations?status=failed").json()["data"] == []


def test_events_are_replayed_until_the_job_ends(client: TestClient, settings: ServiceSettings) -> None:
    """Events of an ended job come in order. Last-Event-ID skips earlier ones; 204 means that there are no more."""
    url = create(client).headers["Location"]
    _finish(settings, _run(settings, url.rpartition("/")[2]))
    text = client.get(f"{url}/events").text
    types = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert types == ["status", "status", "progress", "preview", "status"]
    ids = [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")]
    assert f'"url": "{url}/previews/10.png"' in text
    replay = client.get(f"{url}/events", headers={"Last-Event-ID": ids[-2]}).text
    assert replay.count("event: ") == 1
    assert '"succeeded"' in replay
    assert client.get(f"{url}/events", headers={"Last-Event-ID": ids[-1]}).status_code == 204


def test_stream_of_purged_events_reports_the_end(client: TestClient, settings: ServiceSettings) -> None:
    """The stream of an ended job without stored events contains its final status."""
    url = create(client).headers["Location"]
    job = _run(settings, url.rpartition("/")[2])
    _finish(settings, job, Status.FAILED)
    database = Database(settings.database)
    with database.write() as connection:
        events.delete_for_job(connection, job.id)
    database.close()
    assert '"failed"' in client.get(f"{url}/events").text


def test_taken_token_needs_replace(client: TestClient) -> None:
    """The token of an unfinished personalization gets 409 `token_taken`, unless the request has `replace`."""
    assert create(client).status_code == 202
    taken = create(client)
    assert (taken.status_code, taken.json()["code"]) == (409, "token_taken")
    assert taken.json()["errors"][0]["field"] == "token"
    assert create(client, replace=True).status_code == 202


def test_repeated_request_replays_the_first_response(client: TestClient) -> None:
    """The same idempotency key and content replay the response. Other content is refused."""
    headers = {"Idempotency-Key": "abc"}
    first = create(client, headers=headers)
    again = create(client, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    other = create(client, photo(color="red"), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len(client.get("/v1/personalizations").json()["data"]) == 1


def test_failed_request_can_be_corrected_with_the_same_key(client: TestClient) -> None:
    """Errors are not stored: a corrected request with the same key is processed."""
    headers = {"Idempotency-Key": "k"}
    assert create(client, token="dog", headers=headers).status_code == 422
    assert create(client, headers=headers).status_code == 202


def test_photo_is_stored_upright_and_without_exif(client: TestClient, settings: ServiceSettings) -> None:
    """The EXIF rotation is applied, and no EXIF data are stored."""
    from io import BytesIO

    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90°
    exif[0x010F] = "SecretCamera"
    job = create(client, photo((96, 64), "JPEG", exif=exif)).json()
    stored = ObjectStore(settings.object_store).get(f"jobs/{job['id']}/references/00.png")
    assert b"SecretCamera" not in stored
    assert Image.open(BytesIO(stored)).size == (64, 96)


def test_request_part_is_validated(client: TestClient) -> None:
    """The response names missing, malformed and unknown fields."""
    missing = client.post("/v1/personalizations", files=parts(photo()))
    assert (missing.status_code, missing.json()["errors"][0]["field"]) == (422, "request")
    assert missing.json()["detail"] == "request: got nothing; expected a value"
    malformed = client.post("/v1/personalizations", files=parts(photo()), data={"request": "{"})
    message = "request: got text that is not JSON; expected a JSON object"
    assert malformed.json()["detail"] == message
    assert malformed.json()["errors"] == [{"field": "request", "message": message}]
    unknown = create(client, color="red")
    assert unknown.json()["errors"] == [
        {"field": "color", "message": "color: got an unknown field; expected a field of the schema"}
    ]
    nul = client.post(
        "/v1/personalizations",
        files=parts(photo()),
        data={"request": json.dumps({"token": "<a>", "initializer": "dog", "metadata": {"a": "\x00"}})},
    )
    assert nul.status_code == 422


def test_generation_is_not_a_personalization(client: TestClient, settings: ServiceSettings) -> None:
    """The route of personalizations returns 404 for the id of a generation."""
    generation = client.post("/v1/generations", json={"prompt": "a dog"}).json()
    assert client.get(f"/v1/personalizations/{generation['id']}").status_code == 404
    database = Database(settings.database)
    with database.read() as connection:
        assert store.count_active(connection) == 1
    database.close()


def test_a_failed_job_is_resumed_only_while_its_token_is_free(
    client: TestClient, settings: ServiceSettings
) -> None:
    """After a retryable error the job is queued again; a token that another job took meanwhile is refused."""
    created = create(client)
    url = created.headers["Location"]
    error = {"code": "storage_failed", "message": "the disk is full", "retryable": True}
    running = _run(settings, created.json()["id"])
    database = Database(settings.database)
    with database.write() as connection:
        leases.finish(connection, leases.lease_of(running), Status.FAILED, NOW, {"error": error})
    database.close()
    other = create(client).headers["Location"]
    refused = client.post(f"{url}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "token_taken")
    assert client.get(url).json()["error"]["code"] == "storage_failed"
    client.post(f"{other}/cancel")
    resumed = client.post(f"{url}/resume").json()
    assert (resumed["status"], resumed["error"], resumed["finished_at"]) == ("queued", None, None)


@pytest.mark.parametrize("url", ["/v1/personalizations", "/v1/personalizations?validate_only=true"])
@pytest.mark.parametrize(
    ("request_fields", "code", "field"),
    [
        ({"captions": ["a photo of a cat " * 20 + "<my-dog>"]}, "invalid_caption", "captions"),
        ({"captions": ["a <my-dog> and a <cat>"]}, "unknown_token", "captions"),
        ({"captions": ["a dog"]}, "invalid_caption", "captions"),
        ({"captions": ["a <my-dog> " * 5], "settings": {"vectors": 16}}, "invalid_caption", "captions"),
        ({"initializer": "red dog", "settings": {"vectors": 3}}, "invalid_initializer", "initializer"),
    ],
)
def test_jobs_that_must_fail_are_refused(
    client: TestClient, url: str, request_fields: dict[str, Any], code: str, field: str
) -> None:
    """A request that the worker would refuse gets 422 at once, and no job is created."""
    refused = create(client, url=url, **request_fields)
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert refused.json()["errors"][0]["field"] == field
    assert client.get("/v1/personalizations").json()["data"] == []


@pytest.mark.parametrize("url", ["/v1/personalizations", "/v1/personalizations?validate_only=true"])
def test_too_many_vectors_are_refused(client: TestClient, settings: ServiceSettings, url: str) -> None:
    """The embedded model reads 14 tokens, so 16 vectors do not fit. The message has the largest number."""
    refused = create(client, url=url, base_model="emoji", initializer="turtle", settings={"vectors": 16})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_settings")
    assert refused.json()["errors"][0]["field"] == "settings.vectors"
    assert "expected at most 10" in refused.json()["detail"]
    assert _objects(settings) == []


def test_captions_are_stored_as_they_are_read(client: TestClient, settings: ServiceSettings) -> None:
    """The job gets the token's own spelling; the response has a warning for each correction and for dropped text."""
    caption = "a <My-Dog> " + "in the snow " * 40
    created = create(client, captions=[caption], initializer="red dog", settings={"vectors": 2})
    warnings = [(warning["code"], warning["field"]) for warning in created.json()["warnings"]]
    assert warnings[:2] == [("spelling_corrected", "captions[0]"), ("prompt_truncated", "captions[0]")]
    job = _run(settings, created.json()["id"])
    assert job.request["captions"] == [caption.lower()]
