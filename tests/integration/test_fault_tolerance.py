"""Jobs survive killed and frozen workers and restarts of broker and database."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
import redis
from fastapi.testclient import TestClient

from api.app import create_app
from tests.integration.support.photos import create
from tests.integration.support.servers import start_postgresql, start_redis
from tests.integration.support.workers import (
    STUB,
    freeze,
    wait_for,
    wait_for_job,
    worker,
)
from zoodip_core.service.broker import WakeUpPublisher, celery_app
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import events, store
from zoodip_core.service.jobs.states import ENDED, JobKind, Status
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

SLOW = {"STUB_STEP_S": "0.02"}
OWN_SERVERS = pytest.mark.parametrize(
    "database_url", ["sqlite"], indirect=True
)  # run once, with the test's own servers


@pytest.fixture
def stub(settings: ServiceSettings) -> ServiceSettings:
    """Settings with short leases and a stub engine."""
    settings.data_dir.mkdir(exist_ok=True)
    return settings.model_copy(
        update={"engine": STUB, "lease_s": 1.5, "heartbeat_s": 0.4, "tick_s": 0.2, "log_level": "INFO"}
    )


def _api(settings: ServiceSettings) -> TestClient:
    return TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 1))


def _statuses(settings: ServiceSettings, job_id: str) -> list[str]:
    database = Database(settings.database)
    with database.read() as connection:
        statuses = [
            str(event.data["status"]) for event in events.after(connection, job_id) if event.type == "status"
        ]
    database.close()
    return statuses


def _wait_for_step(settings: ServiceSettings, job_id: str, step: int) -> None:
    wait_for(settings, job_id, lambda job: job.step >= step, f"step {step}")


def test_frozen_worker_changes_nothing_after_its_lease(
    client: TestClient, database: Database, stub: ServiceSettings
) -> None:
    """A worker frozen past its lease drops its job after SIGCONT, and the new worker ends it once."""
    patient = stub.model_copy(update={"lease_s": 5.0})  # the second worker keeps its lease on a busy machine
    with worker(patient, **SLOW) as first:
        job_id = create(client, settings={"steps": 1_000}).json()["id"]
        _wait_for_step(patient, job_id, 20)
        freeze(first, database)
        with worker(patient, wait=False, **SLOW) as second:
            second.wait_for_log('"attempt": 2', 60)
            first.signal(signal.SIGCONT)
            first.wait_for_log('"lease_lost"', 60)
            done = wait_for_job(patient, job_id, *ENDED, timeout_s=120)
    assert done.status is Status.SUCCEEDED
    assert "personalization_succeeded" not in first.log.read_text()
    assert _statuses(patient, job_id) == ["queued", "running", "queued", "running", "succeeded"]


@OWN_SERVERS
def test_jobs_survive_a_restart_and_a_flush_of_redis(stub: ServiceSettings, tmp_path: Path) -> None:
    """Jobs run if their message was flushed and if they were created while Redis was down or afterwards."""
    (tmp_path / "redis").mkdir()
    with start_redis(tmp_path / "redis") as server:
        with_redis = stub.model_copy(update={"broker_url": server.url})
        with TestClient(
            create_app(with_redis), base_url="http://127.0.0.1", client=("127.0.0.1", 1)
        ) as client:
            flushed = create(client, settings={"steps": 3}).json()["id"]
            redis.Redis.from_url(server.url).flushall()
            with worker(with_redis):
                wait_for_job(with_redis, flushed, Status.SUCCEEDED)
                server.stop()
                created = create(client, token="<without-redis>", settings={"steps": 3})
                assert created.status_code == 202
                wait_for_job(with_redis, created.json()["id"], Status.SUCCEEDED)
                server.start()
                later = create(client, token="<later>", settings={"steps": 3}).json()["id"]
                wait_for_job(with_redis, later, Status.SUCCEEDED)


def test_repeated_message_runs_the_job_once(client: TestClient, stub: ServiceSettings) -> None:
    """Five messages for one job start it once."""
    log = stub.data_dir / "begins"
    job_id = create(client, settings={"steps": 20}).json()["id"]
    publisher = WakeUpPublisher(celery_app(stub))
    for _ in range(5):
        publisher.send(JobKind.PERSONALIZATION, job_id)
    publisher.close()
    with worker(stub, STUB_LOG=str(log)):
        wait_for_job(stub, job_id, Status.SUCCEEDED)
        other = create(client, token="<other>", settings={"steps": 3}).json()["id"]
        wait_for_job(stub, other, Status.SUCCEEDED)
    assert [line.split()[0] for line in log.read_text().splitlines()] == [job_id, other]


@OWN_SERVERS
def test_running_job_survives_a_restart_of_postgresql(stub: ServiceSettings) -> None:
    """The API responds with 503 during the restart; the job succeeds in one attempt, with one log entry."""
    with start_postgresql() as cluster:
        changed = stub.model_copy(update={"database_url": cluster.url, "lease_s": 15.0})
        with _api(changed) as client:
            with worker(changed, **SLOW) as running:
                created = create(client, settings={"steps": 150})
                _wait_for_step(changed, created.json()["id"], 20)
                cluster.control("stop", "-m", "fast")
                down = client.get(created.headers["Location"])
                assert (down.status_code, down.json()["code"]) == (503, "database_unavailable")
                running.wait_for_log('"database_unavailable"')
                cluster.control("start")
                done = wait_for_job(changed, created.json()["id"], *ENDED)
            assert done.status is Status.SUCCEEDED
            assert done.attempts == 1
            assert client.get(created.headers["Location"]).json()["step"] == 150
            running.wait_for_log('"database_available"')
            assert running.log.read_text().count('"database_unavailable"') == 1


@OWN_SERVERS
def test_job_continues_after_a_database_outage_longer_than_a_lease(stub: ServiceSettings) -> None:
    """The worker drops a job with an expired lease; when PostgreSQL is back, the job resumes at its checkpoint."""
    with start_postgresql() as cluster:
        changed = stub.model_copy(update={"database_url": cluster.url})
        begins = stub.data_dir / "begins"
        with _api(changed) as client, worker(changed, **SLOW, STUB_LOG=str(begins)) as running:
            job_id = create(client, settings={"steps": 400}).json()["id"]
            wait_for(changed, job_id, lambda job: job.checkpoint_step > 0, "a checkpoint")
            cluster.control("stop", "-m", "fast")
            running.wait_for_log('"job_abandoned"')
            cluster.control("start")
            done = wait_for_job(changed, job_id, *ENDED)
    assert (done.status, done.step, done.fence) == (Status.SUCCEEDED, 400, 2)
    first, second = (int(line.split()[1]) for line in begins.read_text().splitlines())
    assert first == 0 < second


def test_cancel_racing_completion_leaves_a_consistent_job(client: TestClient, stub: ServiceSettings) -> None:
    """Of 40 jobs cancelled at once or near their end, each has a concept or is cancelled without one."""
    random.seed(1)
    objects, ended, settings = ObjectStore(stub.object_store), [], {"steps": 5}
    with worker(stub, **SLOW):
        started = time.monotonic()
        undisturbed = create(client, token="<undisturbed>", settings=settings).json()["id"]
        ended.append(wait_for_job(stub, undisturbed, Status.SUCCEEDED))
        duration_s = time.monotonic() - started
        for number in range(40):
            created = create(client, token=f"<t{number}>", settings=settings)
            time.sleep(0.0 if number < 5 else random.uniform(0.0, duration_s))
            client.post(f"{created.headers['Location']}/cancel")
            ended.append(wait_for_job(stub, created.json()["id"], *ENDED))
    ids = {concept["token"]: concept["id"] for concept in client.get("/v1/concepts?limit=100").json()["data"]}
    for job in ended:
        assert _statuses(stub, job.id)[-1] == job.status
        assert _statuses(stub, job.id).count(job.status) == 1
        assert (job.token in ids) == (job.status is Status.SUCCEEDED)
        assert (job.result or {}).get("concept_id") == ids.get(job.token or "")
    assert sorted(objects.names("concepts/")) == sorted(
        f"concepts/{concept_id}.safetensors" for concept_id in ids.values()
    )
    assert {job.status for job in ended} == {Status.SUCCEEDED, Status.CANCELLED}


def test_generation_with_a_deleted_concept_fails(client: TestClient, stub: ServiceSettings) -> None:
    """A queued generation whose concept is deleted fails with `not_found`."""
    database = Database(stub.database)
    with worker(stub):
        created = create(client, settings={"steps": 3})
        concept_id = (wait_for_job(stub, created.json()["id"], Status.SUCCEEDED).result or {})["concept_id"]
    generation = client.post("/v1/generations", json={"prompt": "a <my-dog>"}).json()
    assert client.delete(f"/v1/concepts/{concept_id}").status_code == 204
    assert ObjectStore(stub.object_store).names(f"jobs/{created.json()['id']}") == []
    with worker(stub):
        failed = wait_for_job(stub, generation["id"], Status.FAILED)
    assert failed.error is not None
    assert failed.error["code"] == "not_found"
    with database.read() as connection:
        assert store.count_active(connection) == 0
    database.close()
