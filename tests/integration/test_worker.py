"""A real worker process with a stub for the models: jobs from upload to result, on every transport."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.integration.support.photos import create
from tests.integration.support.processes import wait_until
from tests.integration.support.stub_engine import HUGE_SEED, NAN_SEED
from tests.integration.support.workers import STUB, wait_for_job, worker
from zoodip_core.service import retention
from zoodip_core.service.database import Database
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

DOG: dict[str, Any] = {"url": "/v1/generations", "json": {"prompt": "a dog"}}


@pytest.fixture
def settings(settings: ServiceSettings) -> ServiceSettings:
    """A stub for the models, and quick leases."""
    settings.data_dir.mkdir()
    changes = {"engine": STUB, "lease_s": 2.0, "heartbeat_s": 0.5, "tick_s": 0.3, "log_level": "INFO"}
    return settings.model_copy(update=changes)


def test_jobs_from_upload_to_result(client: TestClient, settings: ServiceSettings) -> None:
    """A concept is learned, named in a prompt and drawn; previews, checkpoints, events and errors on the way."""
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
        assert [news["step"] for news in progress] == [0, 10, 20, 30, 40, 45]
        assert all(news["it_per_s"] > 0 and news["eta_s"] >= 0 for news in progress[1:])
        wait_until(lambda: "zoodip_worker_steps_total" in client.get("/metrics").text, "the worker's figures")
        shown = client.get("/metrics").text
        for name in ("step_seconds", "rows_per_forward", "personalizations", "forwards_total", "rows_total"):
            assert f'zoodip_worker_{name}{{worker="' in shown
        for stage in ("begin", "step", "measure", "checkpoint", "preview", "save"):
            assert f'stage="{stage}"' in shown
        assert (
            client.get(f"{made.headers['Location']}/previews/10.png").headers["content-type"] == "image/png"
        )
        drawn = client.post(
            "/v1/generations", json={"prompt": "a <my-dog>", "n": 2, "seed": 5}, headers={"Prefer": "wait=20"}
        )
        assert drawn.status_code == 200
        assert [image["seed"] for image in drawn.json()["images"]] == [5, 6]
        assert client.get(drawn.json()["images"][1]["url"]).content.startswith(b"\x89PNG")
        lost = create(client, token="<nan>", settings={"steps": 45, "seed": NAN_SEED})
        failed = wait_for_job(settings, lost.json()["id"], Status.FAILED)
        assert failed.error == {
            "code": "loss_not_finite",
            "message": "The loss is nan at step 5",
            "retryable": False,
        }


def test_a_concept_that_goes_takes_what_its_job_held(client: TestClient, settings: ServiceSettings) -> None:
    """Replaced or deleted: photos, previews and checkpoints go, and the job names none of them any more."""
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


def test_memory_that_is_too_small_is_a_typed_failure(client: TestClient, settings: ServiceSettings) -> None:
    """Not even one row fits: out_of_memory, which another worker may not meet; the next job runs."""
    with worker(settings):
        huge = create(client, settings={"steps": 45, "seed": HUGE_SEED}).json()["id"]
        wait_for_job(settings, huge, Status.FAILED)
        small = create(client, token="<small>", settings={"steps": 3}).json()["id"]
        wait_for_job(settings, small, Status.SUCCEEDED)
    error = client.get(f"/v1/personalizations/{huge}").json()["error"]
    assert error == {
        "code": "out_of_memory",
        "message": "Not even one row fits into the memory of the device.",
        "retryable": True,
    }


def test_pause_keeps_the_step_and_resume_goes_on(client: TestClient, settings: ServiceSettings) -> None:
    """Pause takes effect within a step, with a checkpoint right there; resume begins at that step."""
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


def test_a_generation_starts_within_one_step_of_a_training(
    client: TestClient, settings: ServiceSettings
) -> None:
    """It waits for the step under way, and for one more at most if its message comes while that begins."""
    calls = settings.data_dir / "calls"
    with worker(settings, STUB_STEP_S="2", STUB_CALLS=str(calls)):
        trained = create(client, settings={"steps": 100_000})
        wait_for_job(settings, trained.json()["id"], Status.RUNNING)
        for _ in range(3):
            asked_at = time.time()
            assert client.post(**DOG, headers={"Prefer": "wait=30"}).status_code == 200
            lines = [line.split() for line in calls.read_text().splitlines()]
            since = [call for call, at in lines if float(at) > asked_at]
            assert since[: since.index("draw")] in ([], ["step"])
        client.post(f"{trained.headers['Location']}/cancel")
        wait_for_job(settings, trained.json()["id"], Status.CANCELLED)


def test_a_message_alone_wakes_a_worker(client: TestClient, settings: ServiceSettings) -> None:
    """Without looking for rows by itself it hears of each job through the broker."""
    with worker(settings.model_copy(update={"tick_s": 3_600.0})):
        for k in range(3):
            job_id = create(client, token=f"<t{k}>", settings={"steps": 3}).json()["id"]
            wait_for_job(settings, job_id, Status.SUCCEEDED)
        assert client.post(**DOG, headers={"Prefer": "wait=30"}).status_code == 200


def test_a_drained_worker_gives_its_jobs_back(client: TestClient, settings: ServiceSettings) -> None:
    """SIGTERM: a checkpoint, the job queued again without an attempt counted, and a quick end."""
    with worker(settings, STUB_STEP_S="0.02") as first:
        job_id = create(client, settings={"steps": 400}).json()["id"]
        wait_for_job(settings, job_id, Status.RUNNING)
        first.process.terminate()
        assert first.process.wait(20) == 0
    back = wait_for_job(settings, job_id, Status.QUEUED)
    assert back.attempts == 0
    assert back.step == back.checkpoint_step > 0
    assert client.get("/readyz").status_code == 503


def test_a_generation_that_is_cancelled_while_it_is_drawn_keeps_nothing(
    client: TestClient, settings: ServiceSettings
) -> None:
    """It ends within a step, as the client was told, without an image; and the worker goes on."""
    with worker(settings, STUB_DRAW_S="600") as drawing:
        for _ in range(2):
            job_id = client.post(**DOG).json()["id"]
            wait_for_job(settings, job_id, Status.RUNNING)
            assert client.post(f"/v1/generations/{job_id}/cancel").status_code == 200
            wait_for_job(settings, job_id, Status.CANCELLED)
        assert ObjectStore(settings.object_store).names("") == []
        assert "failed" not in drawing.log.read_text()


def test_a_generation_is_given_back_by_a_worker_that_drains(
    client: TestClient, settings: ServiceSettings
) -> None:
    """However long it would take: the worker ends soon, and the next one draws it with no attempt lost."""
    job_id = client.post(**DOG).json()["id"]
    with worker(settings, STUB_DRAW_S="600") as first:
        wait_for_job(settings, job_id, Status.RUNNING)
        first.process.terminate()
        assert first.process.wait(20) == 0
    assert wait_for_job(settings, job_id, Status.QUEUED).attempts == 0
    with worker(settings):
        assert wait_for_job(settings, job_id, Status.SUCCEEDED).attempts == 1


def test_a_worker_that_lost_a_part_ends(client: TestClient, settings: ServiceSettings) -> None:
    """It renews no leases that nobody works on: the process ends, and another takes the job."""
    fault = settings.data_dir / "fault"
    with worker(settings, STUB_STEP_S="0.02", STUB_FAULT=str(fault)) as broken:
        job_id = create(client, settings={"steps": 60}).json()["id"]
        wait_for_job(settings, job_id, Status.RUNNING)
        fault.touch()
        assert broken.process.wait(20) == 1
    assert '"part_died"' in broken.log.read_text()
    with worker(settings):
        assert wait_for_job(settings, job_id, Status.SUCCEEDED).attempts == 2


def test_replace_takes_the_name_at_the_end(client: TestClient, settings: ServiceSettings) -> None:
    """The first concept stays until the second succeeds; then its embedding is gone, and so are all photos."""
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


def test_auto_stops_when_nothing_is_gained(client: TestClient, settings: ServiceSettings) -> None:
    """The stub's loss stops falling at step 40: when a third of the measurements are later, the job ends so."""
    with worker(settings):
        asked = {"steps": 200, "stop": "auto", "measure_every": 10}
        job_id = create(client, settings=asked).json()["id"]
        done = wait_for_job(settings, job_id, Status.SUCCEEDED)
    assert done.result is not None
    assert done.result["stopped_early"]
    assert done.result["steps"] == done.step == 60


def test_a_worker_whose_engine_hangs_ends(client: TestClient, settings: ServiceSettings) -> None:
    """It looks ready no longer and holds no job for ever: another worker finishes it."""
    impatient = settings.model_copy(update={"stuck_after_s": 3.0})
    with worker(impatient, STUB_STEP_S="600") as hanging:
        job_id = create(client, settings={"steps": 3}).json()["id"]
        wait_for_job(settings, job_id, Status.RUNNING)
        assert hanging.process.wait(30) == 1
        assert "EngineStuckError" in hanging.log.read_text()
    with worker(impatient):
        assert wait_for_job(settings, job_id, Status.SUCCEEDED).attempts == 2
