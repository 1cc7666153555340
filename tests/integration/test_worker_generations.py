"""Generations on a worker process with a stub engine: turns with other jobs, progress, cancel and drain."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.integration.support.databases import ON_POSTGRESQL, ON_SQLITE
from tests.integration.support.photos import create
from tests.integration.support.workers import STUB, wait_for, wait_for_job, worker
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

DOG_REQUEST: dict[str, Any] = {"url": "/v1/generations", "json": {"prompt": "a dog"}}


@pytest.fixture
def settings(settings: ServiceSettings) -> ServiceSettings:
    """Return settings with the stub engine and short leases."""
    settings.data_dir.mkdir()
    changes = {"engine": STUB, "lease_s": 2.0, "heartbeat_s": 0.5, "tick_s": 0.3, "log_level": "INFO"}
    return settings.model_copy(update=changes)


@ON_POSTGRESQL
def test_a_generation_starts_within_one_step_of_a_personalization(
    client: TestClient, settings: ServiceSettings
) -> None:
    """It waits for the current step, and for at most one more if its message arrives between steps."""
    calls = settings.data_dir / "calls"
    with worker(settings, STUB_STEP_S="2", STUB_CALLS=str(calls)):
        running = create(client, settings={"steps": 100_000})
        wait_for_job(settings, running.json()["id"], Status.RUNNING)
        for _ in range(3):
            submitted_at = time.time()
            assert client.post(**DOG_REQUEST, headers={"Prefer": "wait=30"}).status_code == 200
            lines = [line.split() for line in calls.read_text().splitlines()]
            calls_since = [call for call, at in lines if float(at) > submitted_at]
            assert calls_since[: calls_since.index("draw")] in ([], ["step"])
        client.post(f"{running.headers['Location']}/cancel")
        wait_for_job(settings, running.json()["id"], Status.CANCELLED)


def test_a_cancelled_generation_stores_no_image(client: TestClient, settings: ServiceSettings) -> None:
    """A running generation is cancelled within a step, no image is stored, and the worker runs the next job."""
    with worker(settings, STUB_DRAW_S="600") as drawing:
        for _ in range(2):
            job_id = client.post(**DOG_REQUEST).json()["id"]
            wait_for_job(settings, job_id, Status.RUNNING)
            assert client.post(f"/v1/generations/{job_id}/cancel").status_code == 200
            wait_for_job(settings, job_id, Status.CANCELLED)
        assert ObjectStore(settings.object_store).names("") == []
        assert "failed" not in drawing.log.read_text()


def test_a_generation_reports_progress(client: TestClient, settings: ServiceSettings) -> None:
    """While it is drawn, step, speed and remaining time move, and personalizations go on; events have the same."""
    with worker(settings, STUB_DRAW_S="6", STUB_STEP_S="0.02"):
        learning = create(client, settings={"steps": 100_000}).json()["id"]
        created = client.post("/v1/generations", json={"prompt": "a dog", "steps": 120}).json()
        url = f"/v1/generations/{created['id']}"
        seen = wait_for(settings, created["id"], lambda job: 0 < job.step < 120, "progress")
        shown = client.get(url).json()
        assert 0 < seen.step <= shown["step"] <= 120
        assert (seen.it_per_s or 0) > 0
        assert (seen.eta_s or 0) > 0
        learned = wait_for(settings, learning, lambda job: job.step > 0, "steps of the personalization").step
        drawing = wait_for(settings, learning, lambda job: job.step > learned, "more steps")
        assert drawing.status is Status.RUNNING
        wait_for_job(settings, created["id"], Status.SUCCEEDED)
        text = client.get(f"{url}/events").text
        client.post(f"/v1/personalizations/{learning}/cancel")
    data = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    steps = [event["step"] for event in data if "total_steps" in event]
    assert steps == sorted(set(steps))
    assert (len(steps) > 2, steps[-1]) == (True, 120)
    assert [event["status"] for event in data if "status" in event] == ["queued", "running", "succeeded"]
    assert client.get(f"/v1/personalizations/{created['id']}/events").status_code == 404


@ON_SQLITE
def test_a_short_generation_does_not_wait_for_a_long_one(
    client: TestClient, settings: ServiceSettings
) -> None:
    """While one generation holds the engine for minutes, another one on the same worker starts."""
    with worker(settings, STUB_DRAW_S="600"):
        first, second = (client.post(**DOG_REQUEST).json()["id"] for _ in range(2))
        for job_id in (first, second):
            wait_for_job(settings, job_id, Status.RUNNING)
        for job_id in (first, second):
            client.post(f"/v1/generations/{job_id}/cancel")
            wait_for_job(settings, job_id, Status.CANCELLED)


def test_a_draining_worker_requeues_its_generation(client: TestClient, settings: ServiceSettings) -> None:
    """The worker ends during a long generation, and the next worker runs it as the first attempt."""
    job_id = client.post(**DOG_REQUEST).json()["id"]
    with worker(settings, STUB_DRAW_S="600") as first:
        wait_for_job(settings, job_id, Status.RUNNING)
        first.process.terminate()
        assert first.process.wait(20) == 0
    assert wait_for_job(settings, job_id, Status.QUEUED).attempts == 0
    with worker(settings):
        assert wait_for_job(settings, job_id, Status.SUCCEEDED).attempts == 1
