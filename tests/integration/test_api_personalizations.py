"""Personalizations over HTTP, on both databases."""

from __future__ import annotations

import json

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


def test_an_upload_becomes_a_queued_job_with_clean_photos(
    client: TestClient, settings: ServiceSettings
) -> None:
    """202, Location, the job as service.md describes it; the stored photos are PNGs without metadata."""
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


def test_validate_only_says_what_would_run_and_makes_nothing(
    client: TestClient, settings: ServiceSettings
) -> None:
    """Resolved settings, memory and warnings; no row, no object."""
    response = create(client, photo((40, 40)), url="/v1/personalizations?validate_only=true")
    assert response.status_code == 200
    body = response.json()
    assert body["settings"]["steps"] == 30
    assert body["estimated_memory_mb"] > 0
    assert "40×40" in body["warnings"][0]
    assert client.get("/v1/personalizations").json()["data"] == []
    assert _objects(settings) == []


def test_cancel_pause_resume_and_delete(client: TestClient, settings: ServiceSettings) -> None:
    """The steering calls are idempotent; only an ended job can be deleted, and its photos go with it."""
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


def test_lists_page_and_filter(client: TestClient) -> None:
    """Cursor pages, and filters by status and metadata."""
    ids = [create(client, token=f"<t{n}>", metadata={"n": str(n % 2)}).json()["id"] for n in range(5)]
    page = client.get("/v1/personalizations?limit=3").json()
    assert page["object"] == "list"
    assert page["has_more"]
    rest = client.get(f"/v1/personalizations?limit=3&after={page['data'][-1]['id']}").json()
    assert sorted(job["id"] for job in page["data"] + rest["data"]) == sorted(ids)
    assert not rest["has_more"]
    assert len(client.get("/v1/personalizations?metadata[n]=1").json()["data"]) == 2
    assert client.get("/v1/personalizations?status=failed").json()["data"] == []


def test_events_replay_and_end_with_the_job(client: TestClient, settings: ServiceSettings) -> None:
    """All events of a finished job in order; Last-Event-ID skips the seen ones; 204 when there is nothing more."""
    url = create(client).headers["Location"]
    _finish(settings, _run(settings, url.rpartition("/")[2]))
    text = client.get(f"{url}/events").text
    told = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert told == ["status", "status", "progress", "preview", "status"]
    ids = [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")]
    assert f'"url": "{url}/previews/10.png"' in text
    replay = client.get(f"{url}/events", headers={"Last-Event-ID": ids[-2]}).text
    assert replay.count("event: ") == 1
    assert '"succeeded"' in replay
    assert client.get(f"{url}/events", headers={"Last-Event-ID": ids[-1]}).status_code == 204


def test_events_that_went_with_age_still_tell_the_end(client: TestClient, settings: ServiceSettings) -> None:
    """A job without stored events answers with its terminal status."""
    url = create(client).headers["Location"]
    job = _run(settings, url.rpartition("/")[2])
    _finish(settings, job, Status.FAILED)
    database = Database(settings.database)
    with database.write() as connection:
        events.delete_for_job(connection, job.id)
    database.close()
    assert '"failed"' in client.get(f"{url}/events").text


def test_a_taken_token_needs_replace(client: TestClient) -> None:
    """A name that is being learned answers 409 token_taken, unless the request replaces."""
    assert create(client).status_code == 202
    taken = create(client)
    assert (taken.status_code, taken.json()["code"]) == (409, "token_taken")
    assert taken.json()["errors"][0]["field"] == "token"
    assert create(client, replace=True).status_code == 202


def test_a_repeated_request_gets_the_first_answer(client: TestClient) -> None:
    """Same key and content replay; other content is refused; without the key the token is taken."""
    headers = {"Idempotency-Key": "abc"}
    first = create(client, headers=headers)
    again = create(client, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    other = create(client, photo(colour="red"), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len(client.get("/v1/personalizations").json()["data"]) == 1


def test_a_failed_request_can_be_repeated_with_its_key(client: TestClient) -> None:
    """Errors are not stored: the corrected request with the same key is answered anew."""
    headers = {"Idempotency-Key": "k"}
    assert create(client, token="dog", headers=headers).status_code == 422
    assert create(client, headers=headers).status_code == 202


def test_a_photo_turned_by_exif_is_stored_upright_and_bare(
    client: TestClient, settings: ServiceSettings
) -> None:
    """EXIF's rotation is applied, and nothing of EXIF is kept."""
    from io import BytesIO

    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    exif[0x010F] = "SecretCamera"
    job = create(client, photo((96, 64), "JPEG", exif=exif)).json()
    stored = ObjectStore(settings.object_store).get(f"jobs/{job['id']}/references/00.png")
    assert b"SecretCamera" not in stored
    assert Image.open(BytesIO(stored)).size == (64, 96)


def test_the_request_part_is_plain_json(client: TestClient) -> None:
    """Missing, broken or unknown fields are named."""
    missing = client.post("/v1/personalizations", files=parts(photo()))
    assert (missing.status_code, missing.json()["errors"][0]["field"]) == (422, "request")
    broken = client.post("/v1/personalizations", files=parts(photo()), data={"request": "{"})
    assert broken.json()["errors"] == [{"field": "request", "message": "This field is not JSON"}]
    unknown = create(client, colour="red")
    assert unknown.json()["errors"][0]["field"] == "colour"
    nul = client.post(
        "/v1/personalizations",
        files=parts(photo()),
        data={"request": json.dumps({"token": "<a>", "initializer": "dog", "metadata": {"a": "\x00"}})},
    )
    assert nul.status_code == 422


def test_a_job_of_another_kind_is_not_found_here(client: TestClient, settings: ServiceSettings) -> None:
    """Ids of generations do not open personalizations."""
    generation = client.post("/v1/generations", json={"prompt": "a dog"}).json()
    assert client.get(f"/v1/personalizations/{generation['id']}").status_code == 404
    database = Database(settings.database)
    with database.read() as connection:
        assert store.count_active(connection) == 1
    database.close()
