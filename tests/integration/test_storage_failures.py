"""A worker waits for storage that fails; then the job fails with a retryable error and keeps its last checkpoint."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from tests.integration.support.photos import create
from tests.integration.support.postgresql import postgresql_url
from tests.integration.support.s3 import start_s3
from tests.integration.support.workers import STUB, Worker, wait_for, wait_for_job, worker
from zoodip_core.artifact import load_concept
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import ObjectStore, checkpoint_name, reference_name
from zoodip_core.service.settings import ServiceSettings

SLOW = {"STUB_STEP_S": "0.02"}
ENDLESS = {"steps": 30_000, "checkpoint_every": 20, "seed": 7}
_LIMIT_BYTES = 400  # larger than a checkpoint or preview of the stub, smaller than a concept


@pytest.fixture
def database_url() -> Iterator[str]:
    """URL of a PostgreSQL database, so that a full disk affects only the objects."""
    with postgresql_url() as url:
        yield url


@pytest.fixture
def stub(settings: ServiceSettings) -> ServiceSettings:
    """Settings with a stub engine. The worker's log is also on the full disk."""
    settings.data_dir.mkdir(exist_ok=True)
    changed = {"engine": STUB, "lease_s": 5.0, "heartbeat_s": 0.4, "tick_s": 0.2, "log_level": "INFO"}
    return settings.model_copy(update={**changed, "storage_retry_s": 2.0})


def _api(settings: ServiceSettings) -> TestClient:
    return TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 1))


def _limit_files(running: Worker, size_bytes: int) -> None:
    """Let the kernel refuse larger files (EFBIG), as a full disk refuses all writes (ENOSPC)."""
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


def _wait_for_checkpoint(settings: ServiceSettings, job_id: str) -> None:
    wait_for(settings, job_id, lambda job: job.checkpoint_step > 0, "a checkpoint")


def _check_failed(client: TestClient, settings: ServiceSettings, failed: Job) -> None:
    """Validate a failed job: retryable error, complete reference images and checkpoints, no concept."""
    job = client.get(f"/v1/personalizations/{failed.id}").json()
    assert (job["status"], job["result"]) == ("failed", None)
    assert (job["error"]["code"], job["error"]["retryable"]) == ("storage_failed", True)
    assert job["checkpoints"] == list(failed.checkpoints)
    assert failed.checkpoint_step == failed.checkpoints[-1] > 0
    objects = ObjectStore(settings.object_store)
    assert objects.get(reference_name(failed.id, 0)).startswith(b"\x89PNG")
    for step in failed.checkpoints:
        assert json.loads(objects.get(checkpoint_name(failed.id, step)))["step"] == step
    assert objects.names("concepts") == []


def _learn(client: TestClient, settings: ServiceSettings, token: str) -> np.ndarray:
    """Run a personalization to its end; return the vectors of the token."""
    job_id = create(client, token=token, settings={"steps": 45, "seed": 7}).json()["id"]
    done = wait_for_job(settings, job_id, Status.SUCCEEDED, Status.FAILED)
    assert done.error is None
    content = client.get(f"/v1/concepts/{(done.result or {})['concept_id']}/embedding").content
    return load_concept(content, token=token).embeddings["clip"]


def test_lost_object_store_fails_the_job_and_not_the_worker(
    stub: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When S3 stops after a checkpoint, the job fails; after S3 restarts, it can be resumed on the same worker."""
    with start_s3() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        with_s3 = stub.model_copy(update={"object_store_url": f"s3://{s3.bucket}/prefix"})
        with _api(with_s3) as client, worker(with_s3, **SLOW) as running:
            job_id = create(client, settings=ENDLESS).json()["id"]
            _wait_for_checkpoint(with_s3, job_id)
            s3.stop()
            failed = wait_for_job(with_s3, job_id, Status.FAILED)
            s3.start()
            _check_failed(client, with_s3, failed)
            assert client.post(f"/v1/personalizations/{job_id}/resume").status_code == 200
            wait_for(with_s3, job_id, lambda job: job.checkpoint_step > failed.checkpoint_step, "progress")
            client.post(f"/v1/personalizations/{job_id}/cancel")
            wait_for_job(with_s3, job_id, Status.CANCELLED)
            again = _learn(client, with_s3, "<my-dog>")
            assert np.array_equal(again, _learn(client, with_s3, "<undisturbed>"))
            assert running.process.poll() is None


@pytest.mark.parametrize("kept_bytes", [0, _LIMIT_BYTES], ids=["checkpoint", "concept"])
def test_full_disk_fails_the_job_and_leaves_no_partial_files(
    client: TestClient, stub: ServiceSettings, kept_bytes: int
) -> None:
    """The disk is full at a checkpoint or within the concept file; with free space, the next job runs."""
    with worker(stub, **SLOW) as running:
        if kept_bytes:
            _limit_files(running, kept_bytes)
            job_id = create(client, settings={**ENDLESS, "steps": 30}).json()["id"]
        else:
            job_id = create(client, settings=ENDLESS).json()["id"]
            _wait_for_checkpoint(stub, job_id)
            _limit_files(running, 0)
        failed = wait_for_job(stub, job_id, Status.FAILED, Status.SUCCEEDED)
        assert failed.error is not None
        assert failed.error["message"].endswith("File too large (os error 27)")
        _check_failed(client, stub, failed)
        files = [path for path in (stub.data_dir / "objects").rglob("*") if path.is_file()]
        kept = {f"{step}.safetensors" for step in failed.checkpoints}
        assert {path.name for path in files if path.parent.name != "previews"} == {"00.png", *kept}
        _limit_files(running, resource.RLIM_INFINITY)
        assert np.array_equal(_learn(client, stub, "<my-dog>"), _learn(client, stub, "<undisturbed>"))


def _fill_disk(settings: ServiceSettings, running: Worker, job_id: str) -> None:
    """Fill the disk after the next checkpoint, and return when the worker has waited for longer than a lease."""
    _wait_for_checkpoint(settings, job_id)
    _limit_files(running, 0)
    end = time.time() + 3 * settings.lease_s
    wait_for(settings, job_id, lambda job: (job.lease_expires_at or 0.0) > end, "renewals of the lease")


def test_full_disk_is_waited_for(client: TestClient, stub: ServiceSettings) -> None:
    """If space is free again in time, the job succeeds in its first attempt. Its lease stays valid meanwhile."""
    patient = stub.model_copy(update={"storage_retry_s": 600.0, "lease_s": 2.0})
    with worker(patient, **SLOW) as running:
        job_id = create(client, settings={**ENDLESS, "steps": 60}).json()["id"]
        _fill_disk(patient, running, job_id)
        assert wait_for_job(patient, job_id, Status.RUNNING).step < 60
        _limit_files(running, resource.RLIM_INFINITY)
        done = wait_for_job(patient, job_id, Status.SUCCEEDED, Status.FAILED)
    assert (done.error, done.fence) == (None, 1)


def test_full_disk_does_not_delay_a_cancel_or_a_drain(client: TestClient, stub: ServiceSettings) -> None:
    """While the worker waits for space, a job is cancelled, and SIGTERM requeues another at its checkpoint."""
    patient = stub.model_copy(update={"storage_retry_s": 600.0, "lease_s": 1.0})
    with worker(patient, **SLOW) as running:
        cancelled = create(client, token="<cancelled>", settings=ENDLESS).json()["id"]
        _fill_disk(patient, running, cancelled)
        client.post(f"/v1/personalizations/{cancelled}/cancel")
        wait_for_job(patient, cancelled, Status.CANCELLED)
        _limit_files(running, resource.RLIM_INFINITY)
        requeued = create(client, token="<requeued>", settings=ENDLESS).json()["id"]
        _fill_disk(patient, running, requeued)
        running.process.terminate()
        assert running.process.wait(20) == 0
    job = wait_for_job(patient, requeued, Status.QUEUED)
    assert job.step == job.checkpoint_step > 0


def test_full_disk_with_the_database_delays_the_job(stub: ServiceSettings) -> None:
    """If the failure cannot be recorded either, the job resumes at its checkpoint once space is free."""
    one_disk = stub.model_copy(update={"database_url": None, "lease_s": 1.0})
    begins = stub.data_dir / "begins"
    with _api(one_disk) as client, worker(one_disk, **SLOW, STUB_LOG=str(begins)) as running:
        job_id = create(client, settings={**ENDLESS, "steps": 300}).json()["id"]
        _wait_for_checkpoint(one_disk, job_id)
        _limit_files(running, 0)
        lost = wait_for(one_disk, job_id, _is_abandoned, "an expired lease")
        assert lost.status is Status.RUNNING
        _limit_files(running, resource.RLIM_INFINITY)
        done = wait_for_job(one_disk, job_id, Status.SUCCEEDED, Status.FAILED)
    assert (done.error, done.fence) == (None, 2)
    assert begins.read_text().splitlines() == [f"{job_id} 0", f"{job_id} {lost.checkpoint_step}"]


def _is_abandoned(job: Job) -> bool:
    """Return whether the worker has abandoned the job: it retries a write for two lease times."""
    return time.time() > (job.lease_expires_at or time.time()) + 8.0
