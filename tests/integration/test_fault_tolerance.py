"""What is promised when things break: processes killed and frozen, brokers and databases restarted."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
import redis
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from api.app import create_app
from tests.integration.support.jobs import WITHOUT_PHOTOS, queue
from tests.integration.support.photos import create
from tests.integration.support.processes import wait_until
from tests.integration.support.servers import own_postgresql, own_redis
from tests.integration.support.workers import (
    STUB,
    Worker,
    wait_for,
    wait_for_job,
    wait_until_consuming,
    worker,
)
from zoodip_core.service.broker import celery_app, wake
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import events, store
from zoodip_core.service.jobs.states import ENDED, JobKind, Status
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tables import concepts, jobs
from zoodip_core.service.tables import events as events_table

SLOW = {"STUB_STEP_S": "0.02"}
OWN_SERVERS = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # and so once


@pytest.fixture
def stub(settings: ServiceSettings) -> ServiceSettings:
    """Quick leases and a stub for the models."""
    settings.data_dir.mkdir(exist_ok=True)
    return settings.model_copy(
        update={"engine": STUB, "lease_s": 1.5, "heartbeat_s": 0.4, "tick_s": 0.2, "log_level": "INFO"}
    )


def _api(settings: ServiceSettings) -> TestClient:
    return TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 1))


def _told(settings: ServiceSettings, job_id: str) -> list[str]:
    database = Database(settings.database)
    with database.read() as connection:
        told = [
            str(event.data["status"]) for event in events.after(connection, job_id) if event.type == "status"
        ]
    database.close()
    return told


def _wait_for_step(settings: ServiceSettings, job_id: str, step: int) -> None:
    wait_for(settings, job_id, lambda job: job.step >= step, f"step {step}")


def test_a_frozen_worker_wakes_as_a_zombie_and_changes_nothing(
    client: TestClient, stub: ServiceSettings
) -> None:
    """SIGSTOP past the lease, another takes over, SIGCONT: the first lets go, and the job ends once."""
    with worker(stub, **SLOW) as first:
        job_id = create(client, settings={"steps": 250}).json()["id"]
        _wait_for_step(stub, job_id, 20)
        first.signal(signal.SIGSTOP)
        with worker(stub, wait=False, **SLOW) as second:
            wait_until(lambda: '"attempt": 2' in second.log.read_text(), "a second attempt", 60)
            first.signal(signal.SIGCONT)
            done = wait_for_job(stub, job_id, *ENDED)
            wait_until(lambda: "lease_lost" in first.log.read_text(), "the zombie's letting go")
    assert done.status is Status.SUCCEEDED
    assert "personalization_ends" not in first.log.read_text()
    assert _told(stub, job_id) == ["queued", "running", "queued", "running", "succeeded"]


@OWN_SERVERS
def test_a_job_survives_redis_restarted_and_flushed(stub: ServiceSettings, tmp_path: Path) -> None:
    """Jobs made while Redis is away, or whose message was flushed, run; later ones are woken again."""
    (tmp_path / "redis").mkdir()
    with own_redis(tmp_path / "redis") as own:
        with_redis = stub.model_copy(update={"broker_url": own.url})
        with TestClient(
            create_app(with_redis), base_url="http://127.0.0.1", client=("127.0.0.1", 1)
        ) as client:
            flushed = create(client, settings={"steps": 3}).json()["id"]
            redis.Redis.from_url(own.url).flushall()
            with worker(with_redis):
                wait_for_job(with_redis, flushed, Status.SUCCEEDED)
                own.stop()
                away = create(client, token="<away>", settings={"steps": 3})
                assert away.status_code == 202
                wait_for_job(with_redis, away.json()["id"], Status.SUCCEEDED)
                own.start()
                back = create(client, token="<back>", settings={"steps": 3}).json()["id"]
                wait_for_job(with_redis, back, Status.SUCCEEDED)


def test_a_message_delivered_five_times_runs_once(client: TestClient, stub: ServiceSettings) -> None:
    """Five wake-ups for one job: one begin, one end."""
    log = stub.data_dir / "begins"
    job_id = create(client, settings={"steps": 20}).json()["id"]
    app = celery_app(stub)
    for _ in range(5):
        assert wake(app, JobKind.PERSONALIZATION, job_id)
    with worker(stub, STUB_LOG=str(log)):
        wait_for_job(stub, job_id, Status.SUCCEEDED)
        other = create(client, token="<other>", settings={"steps": 3}).json()["id"]
        wait_for_job(stub, other, Status.SUCCEEDED)
    assert [line.split()[0] for line in log.read_text().splitlines()] == [job_id, other]


@OWN_SERVERS
def test_a_running_job_survives_a_restart_of_postgresql(stub: ServiceSettings) -> None:
    """The API says 503 meanwhile and then goes on; the job ends as if nothing had been; the log tells it once."""
    with own_postgresql() as cluster:
        own = stub.model_copy(update={"database_url": cluster.url, "lease_s": 15.0})
        with _api(own) as client:
            with worker(own, **SLOW) as running:
                made = create(client, settings={"steps": 150})
                _wait_for_step(own, made.json()["id"], 20)
                cluster.control("stop", "-m", "fast")
                down = client.get(made.headers["Location"])
                assert (down.status_code, down.json()["code"]) == (503, "database_unavailable")
                wait_until(lambda: '"database_away"' in running.log.read_text(), "the worker's word of it")
                cluster.control("start")
                done = wait_for_job(own, made.json()["id"], *ENDED)
            assert done.status is Status.SUCCEEDED
            assert done.attempts == 1
            assert client.get(made.headers["Location"]).json()["step"] == 150
            wait_until(
                lambda: '"database_back"' in running.log.read_text(), "the worker's word of its return"
            )
            assert running.log.read_text().count('"database_away"') == 1


@OWN_SERVERS
def test_a_database_that_is_away_for_longer_than_a_lease_costs_an_attempt(stub: ServiceSettings) -> None:
    """The worker lets go of what it cannot vouch for; once PostgreSQL is back the job goes on at its checkpoint."""
    with own_postgresql() as cluster:
        own = stub.model_copy(update={"database_url": cluster.url})
        begins = stub.data_dir / "begins"
        with _api(own) as client, worker(own, **SLOW, STUB_LOG=str(begins)) as running:
            job_id = create(client, settings={"steps": 400}).json()["id"]
            wait_for(own, job_id, lambda job: job.checkpoint_step > 0, "a checkpoint")
            cluster.control("stop", "-m", "fast")
            wait_until(lambda: '"database_lost"' in running.log.read_text(), "the worker's letting go")
            cluster.control("start")
            done = wait_for_job(own, job_id, *ENDED)
    assert (done.status, done.step, done.attempts) == (Status.SUCCEEDED, 400, 2)
    first, second = (int(line.split()[1]) for line in begins.read_text().splitlines())
    assert first == 0 < second


def test_cancels_that_race_with_the_end_leave_a_whole_job(client: TestClient, stub: ServiceSettings) -> None:
    """Forty jobs are cancelled at once or about their end: each has a concept, or was cancelled without."""
    random.seed(1)
    objects, ended, settings = ObjectStore(stub.object_store), [], {"steps": 5}
    with worker(stub, **SLOW):
        begun = time.monotonic()
        undisturbed = create(client, token="<undisturbed>", settings=settings).json()["id"]
        ended.append(wait_for_job(stub, undisturbed, Status.SUCCEEDED))
        takes_s = time.monotonic() - begun
        for number in range(40):
            made = create(client, token=f"<t{number}>", settings=settings)
            time.sleep(0.0 if number < 5 else random.uniform(0.0, takes_s))
            client.post(f"{made.headers['Location']}/cancel")
            ended.append(wait_for_job(stub, made.json()["id"], *ENDED))
    names = {one["token"]: one["id"] for one in client.get("/v1/concepts?limit=100").json()["data"]}
    for job in ended:
        assert _told(stub, job.id)[-1] == job.status
        assert _told(stub, job.id).count(job.status) == 1
        assert (job.token in names) == (job.status is Status.SUCCEEDED)
        assert (job.result or {}).get("concept_id") == names.get(job.token or "")
    assert sorted(objects.names("concepts/")) == sorted(
        f"concepts/{one}.safetensors" for one in names.values()
    )
    assert {job.status for job in ended} == {Status.SUCCEEDED, Status.CANCELLED}


def test_a_concept_deleted_before_its_turn_is_a_typed_failure(
    client: TestClient, stub: ServiceSettings
) -> None:
    """The generation fails with not_found rather than drawing something else."""
    database = Database(stub.database)
    with worker(stub):
        done = create(client, settings={"steps": 3})
        concept_id = (wait_for_job(stub, done.json()["id"], Status.SUCCEEDED).result or {})["concept_id"]
    made = client.post("/v1/generations", json={"prompt": "a <my-dog>"}).json()
    assert client.delete(f"/v1/concepts/{concept_id}").status_code == 204
    assert ObjectStore(stub.object_store).names(f"jobs/{done.json()['id']}") == []
    with worker(stub):
        failed = wait_for_job(stub, made["id"], Status.FAILED)
    assert failed.error is not None
    assert failed.error["code"] == "not_found"
    with database.read() as connection:
        assert store.count_active(connection) == 0
    database.close()


def test_a_thousand_jobs_end_exactly_once_while_workers_are_killed(stub: ServiceSettings) -> None:
    """Three workers, killed at random and replaced: each job succeeds once, and has one concept."""
    random.seed(0)
    many = stub.model_copy(update={"max_attempts": 50, "slots": 20})
    database = Database(many.database)
    database.migrate()
    for number in range(1000):
        queue(database, now=time.time(), token=f"<t{number}>", total_steps=3, request=WITHOUT_PHOTOS)

    def count(*statuses: Status) -> int:
        with database.read() as connection:
            return connection.execute(select(func.count()).where(jobs.c.status.in_(statuses))).scalar_one()

    running = [Worker(many, many.data_dir / f"w{n}.log") for n in range(3)]
    try:
        wait_until_consuming(many, *running)
        kills = 0
        while count(*ENDED) < 1000:
            if kills < 6 and count(*ENDED) > 100 * (kills + 1):
                victim = random.randrange(3)
                running[victim].kill()
                kills += 1
                running[victim] = Worker(many, many.data_dir / f"w{2 + kills}.log")
            time.sleep(0.05)
    finally:
        for one in running:
            one.kill()
    assert kills == 6
    assert count(Status.SUCCEEDED) == 1000
    with database.read() as connection:
        ends = select(events_table.c.job_id, func.count()).where(
            events_table.c.type == "status", events_table.c.data["status"].as_string().in_(list(ENDED))
        )
        per_job = connection.execute(ends.group_by(events_table.c.job_id)).all()
        assert len(per_job) == 1000
        assert {number for _, number in per_job} == {1}
        assert connection.execute(select(func.count()).select_from(concepts)).scalar_one() == 1000
    database.close()
