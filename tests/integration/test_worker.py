"""Worker process with a stub engine: jobs from upload to result, on both broker transports."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from tests.integration.support.databases import ON_POSTGRESQL, ON_SQLITE
from tests.integration.support.photos import create
from tests.integration.support.processes import wait_until
from tests.integration.support.stub_engine import DEFECT_SEED, HUGE_SEED, NAN_SEED
from tests.integration.support.workers import ROOT, STUB, environment, wait_for_job, worker
from zoodip_core.service import retention
from zoodip_core.service.database import Database
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


def test_jobs_from_upload_to_result(client: TestClient, settings: ServiceSettings) -> None:
    """A concept is learned and drawn; previews, checkpoints, events, metrics and errors are as documented."""
    with worker(settings):
        made = create(client, settings={"steps": 45, "seed": 3})
        done = wait_for_job(settings, made.json()["id"], Status.SUCCEEDED, Status.FAILED)
        assert done.error is None
        job = client.get(made.headers["Location"]).json()
        assert (job["status"], job["step"], job["checkpoints"]) == ("succeeded", 45, [20, 30, 40])
        concept = client.get(f"/v1/concepts/{job['result']['concept_id']}").json()
        assert concept["from_personalization"] == job["id"]
        text = client.get(f"{made.headers['Location']}/events").text
        progress = [
            json.loads(line[6:])
            for line in text.splitlines()
            if line.startswith('data: {"eta') or '"total_steps"' in line
        ]
        assert [event["step"] for event in progress] == [0, 10, 20, 30, 40, 45]
        assert all(event["it_per_s"] > 0 and event["eta_s"] >= 0 for event in progress[1:])
        wait_until(lambda: 'stage="save"' in client.get("/metrics").text, "the metrics of the finished job")
        metrics = client.get("/metrics").text
        for name in (
            "steps_total",
            "step_seconds",
            "rows_per_forward",
            "personalizations",
            "forwards_total",
            "rows_total",
        ):
            assert f'zoodip_worker_{name}{{worker="' in metrics
        for stage in ("begin", "step", "measure", "checkpoint", "preview", "save"):
            assert f'stage="{stage}"' in metrics
        assert (
            client.get(f"{made.headers['Location']}/previews/10.png").headers["content-type"] == "image/png"
        )
        drawn = client.post(
            "/v1/generations", json={"prompt": "a <my-dog>", "n": 2, "seed": 5}, headers={"Prefer": "wait=20"}
        )
        assert drawn.status_code == 200
        assert [image["seed"] for image in drawn.json()["images"]] == [5, 6]
        assert client.get(drawn.json()["images"][1]["url"]).content.startswith(b"\x89PNG")
        diverging = create(client, token="<nan>", settings={"steps": 45, "seed": NAN_SEED})
        failed = wait_for_job(settings, diverging.json()["id"], Status.FAILED)
        assert failed.error == {
            "code": "loss_not_finite",
            "message": "The loss is nan at step 5",
            "retryable": False,
        }


def test_deleting_or_replacing_a_concept_purges_its_job(
    client: TestClient, settings: ServiceSettings
) -> None:
    """Images, previews and checkpoints of the job are deleted, and its representation no longer lists them."""
    with worker(settings):
        first, second = (create(client, settings={"steps": 45}, replace=replace) for replace in (False, True))
        jobs = [wait_for_job(settings, made.json()["id"], Status.SUCCEEDED) for made in (first, second)]
    objects, database = ObjectStore(settings.object_store), Database(settings.database)
    assert retention.purge(database, objects, settings, time.time()) == [jobs[0].id]
    assert objects.names(f"jobs/{jobs[0].id}") == []
    kept = (jobs[1].result or {})["concept_id"]
    assert objects.names("concepts/") == [f"concepts/{kept}.safetensors"]
    assert client.get(f"{second.headers['Location']}/previews/45.png").status_code == 200
    assert client.delete(f"/v1/concepts/{kept}").status_code == 204
    assert objects.names("") == []
    assert retention.purge(database, objects, settings, time.time()) == []
    database.close()
    for made in (first, second):
        shown = client.get(made.headers["Location"]).json()
        assert (shown["status"], shown["checkpoints"]) == ("succeeded", [])
        assert "preview" not in client.get(f"{made.headers['Location']}/events").text


@ON_SQLITE
def test_defect_in_a_step_fails_one_job(client: TestClient, settings: ServiceSettings) -> None:
    """Jobs on the same base model share iterations with the one that fails, and succeed."""
    with worker(settings, STUB_STEP_S="0.02") as process:
        usual = create(client, token="<usual>", settings={"steps": 100}).json()["id"]
        wait_until(lambda: client.get(f"/v1/personalizations/{usual}").json()["step"] > 0, process)
        broken = create(client, token="<broken>", settings={"steps": 5, "seed": DEFECT_SEED}).json()["id"]
        wait_for_job(settings, broken, Status.FAILED)
        assert client.get(f"/v1/personalizations/{usual}").json()["status"] == "running"
        wait_for_job(settings, usual, Status.SUCCEEDED)
    error = client.get(f"/v1/personalizations/{broken}").json()["error"]
    assert (error["code"], error["message"]) == ("internal_error", "the step failed: IndexError")


@ON_SQLITE
def test_insufficient_memory_fails_with_out_of_memory(client: TestClient, settings: ServiceSettings) -> None:
    """If not even one row fits, the error is out_of_memory and retryable, and the next job runs."""
    with worker(settings):
        huge = create(client, settings={"steps": 45, "seed": HUGE_SEED}).json()["id"]
        wait_for_job(settings, huge, Status.FAILED)
        small = create(client, token="<small>", settings={"steps": 3}).json()["id"]
        wait_for_job(settings, small, Status.SUCCEEDED)
    error = client.get(f"/v1/personalizations/{huge}").json()["error"]
    assert error == {
        "code": "out_of_memory",
        "message": "Not even one row fits in the memory of the device.",
        "retryable": True,
    }


def test_pause_saves_a_checkpoint_and_resume_continues_from_it(
    client: TestClient, settings: ServiceSettings
) -> None:
    """A pause takes effect within a step and saves a checkpoint at that step; resume starts there."""
    log = settings.data_dir / "begins"
    with worker(settings, STUB_STEP_S="0.02", STUB_LOG=str(log)):
        made = create(client, settings={"steps": 400})
        url, job_id = made.headers["Location"], made.json()["id"]
        wait_for_job(settings, job_id, Status.RUNNING)
        client.post(f"{url}/pause")
        paused = wait_for_job(settings, job_id, Status.PAUSED)
        assert 0 < paused.step == paused.checkpoint_step < 400
        assert client.get(url).json()["step"] == paused.step
        client.post(f"{url}/resume")
        wait_for_job(settings, job_id, Status.RUNNING)
        client.post(f"{url}/cancel")
        wait_for_job(settings, job_id, Status.CANCELLED)
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["0", str(paused.step)]


def test_a_message_alone_wakes_a_worker(client: TestClient, settings: ServiceSettings) -> None:
    """With a poll interval of one hour, broker messages alone start each job."""
    with worker(settings.model_copy(update={"tick_s": 3_600.0})):
        for k in range(3):
            job_id = create(client, token=f"<t{k}>", settings={"steps": 3}).json()["id"]
            wait_for_job(settings, job_id, Status.SUCCEEDED)
        assert client.post(**DOG_REQUEST, headers={"Prefer": "wait=30"}).status_code == 200


def test_a_drained_worker_requeues_its_jobs(client: TestClient, settings: ServiceSettings) -> None:
    """SIGTERM saves a checkpoint, requeues the job without counting an attempt and ends the process."""
    with worker(settings, STUB_STEP_S="0.02") as first:
        job_id = create(client, settings={"steps": 400}).json()["id"]
        wait_for_job(settings, job_id, Status.RUNNING)
        first.process.terminate()
        assert first.process.wait(20) == 0
    requeued = wait_for_job(settings, job_id, Status.QUEUED)
    assert requeued.attempts == 0
    assert requeued.step == requeued.checkpoint_step > 0
    assert client.get("/readyz").status_code == 503


def test_a_crashed_thread_ends_the_worker(client: TestClient, settings: ServiceSettings) -> None:
    """The process ends, so its leases expire, and another worker takes the job."""
    fault = settings.data_dir / "fault"
    with worker(settings, STUB_STEP_S="0.02", STUB_FAULT=str(fault)) as broken:
        job_id = create(client, settings={"steps": 60}).json()["id"]
        wait_for_job(settings, job_id, Status.RUNNING)
        fault.touch()
        assert broken.process.wait(20) == 1
    assert '"thread_crashed"' in broken.log.read_text()
    with worker(settings):
        assert wait_for_job(settings, job_id, Status.SUCCEEDED).fence == 2  # claims


def test_replace_takes_the_token_when_the_job_succeeds(client: TestClient, settings: ServiceSettings) -> None:
    """The second job's success deletes the first concept's embedding; all reference images are deleted as well."""
    with worker(settings.model_copy(update={"delete_references_on_success": True})):
        first = create(client, settings={"steps": 5})
        wait_for_job(settings, first.json()["id"], Status.SUCCEEDED)
        second = create(client, settings={"steps": 5, "seed": 1}, replace=True)
        wait_for_job(settings, second.json()["id"], Status.SUCCEEDED)
    (concept,) = client.get("/v1/concepts").json()["data"]
    assert concept["from_personalization"] == second.json()["id"]
    stored = ObjectStore(settings.object_store).names("concepts/")
    assert stored == [f"concepts/{concept['id']}.safetensors"]
    assert not [name for name in ObjectStore(settings.object_store).names("jobs/") if "references" in name]


@ON_SQLITE
def test_auto_stops_when_the_validation_loss_stalls(client: TestClient, settings: ServiceSettings) -> None:
    """The stub's loss stops falling at step 40; the job ends once a third of the measurements are later."""
    with worker(settings):
        search = {"steps": 200, "stop": "auto", "measure_every": 10}
        job_id = create(client, settings=search).json()["id"]
        done = wait_for_job(settings, job_id, Status.SUCCEEDED)
    assert done.result is not None
    assert done.result["stopped_early"]
    assert done.result["steps"] == done.step == 60


@ON_SQLITE
def test_a_hanging_engine_ends_the_worker(client: TestClient, settings: ServiceSettings) -> None:
    """The worker exits after `stuck_after_s`, and another worker finishes its job."""
    impatient = settings.model_copy(update={"stuck_after_s": 3.0})
    with worker(impatient, STUB_STEP_S="600") as hanging:
        job_id = create(client, settings={"steps": 3}).json()["id"]
        wait_for_job(settings, job_id, Status.RUNNING)
        assert hanging.process.wait(30) == 1
        assert "EngineStuckError" in hanging.log.read_text()
    with worker(impatient):
        assert wait_for_job(settings, job_id, Status.SUCCEEDED).attempts == 2


@ON_POSTGRESQL
def test_a_hanging_engine_makes_the_worker_unready(settings: ServiceSettings) -> None:
    """`/readyz` and the worker's health check fail while the worker reports but its engine hangs."""
    strict = settings.model_copy(update={"unready_after_s": 5.0})

    def health() -> int:
        command = [sys.executable, "-m", "worker.health"]
        return subprocess.run(command, cwd=ROOT, env=environment(strict), check=False).returncode

    with (
        TestClient(create_app(strict), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client,
        worker(strict, STUB_STEP_S="600") as hanging,
    ):
        assert client.get("/readyz").status_code == 200
        assert health() == 0
        wait_for_job(strict, create(client, settings={"steps": 3}).json()["id"], Status.RUNNING)
        wait_until(lambda: client.get("/readyz").status_code == 503, "the end of readiness")
        unready = client.get("/readyz").json()
        assert unready["workers"] == 0
        assert unready["waits_for"].startswith("an engine: 1 without progress")
        assert health() == 1
        metrics = client.get("/metrics").text
        assert "zoodip_workers 0.0" in metrics
        assert "zoodip_worker_engine_idle_seconds" in metrics
        hanging.kill()
