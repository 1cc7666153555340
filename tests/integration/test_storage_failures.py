"""What is promised when bytes cannot be stored: the job fails by a typed error and keeps its last checkpoint."""

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
from tests.integration.support.s3 import own_s3
from tests.integration.support.workers import STUB, Worker, wait_for, wait_for_job, worker
from zoodip_core.artifact import load_concept
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import ObjectStore, checkpoint_name, reference_name
from zoodip_core.service.settings import ServiceSettings

SLOW = {"STUB_STEP_S": "0.02"}
ENDLESS = {"steps": 30_000, "checkpoint_every": 20, "seed": 7}
_CUT_BYTES = 400  # a checkpoint or a preview of the stub fits, a concept does not


@pytest.fixture
def database_url() -> Iterator[str]:
    """PostgreSQL: the disk that fills up is the objects' alone."""
    with postgresql_url() as url:
        yield url


@pytest.fixture
def stub(settings: ServiceSettings) -> ServiceSettings:
    """A stub for the models; the worker's log is on the disk that is full too."""
    settings.data_dir.mkdir(exist_ok=True)
    changed = {"engine": STUB, "lease_s": 5.0, "heartbeat_s": 0.4, "tick_s": 0.2, "log_level": "INFO"}
    return settings.model_copy(update=changed)


def _api(settings: ServiceSettings) -> TestClient:
    return TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 1))


def _limit_files(running: Worker, size_bytes: int) -> None:
    """From now on the kernel refuses what would make a file longer (EFBIG), as a full disk does (ENOSPC)."""
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


def _wait_for_checkpoint(settings: ServiceSettings, job_id: str) -> None:
    wait_for(settings, job_id, lambda job: job.checkpoint_step > 0, "a checkpoint")


def _check_failed(client: TestClient, settings: ServiceSettings, failed: Job) -> None:
    """The error says that trying again may help; photos and checkpoints are whole; there is no concept."""
    seen = client.get(f"/v1/personalizations/{failed.id}").json()
    assert (seen["status"], seen["result"]) == ("failed", None)
    assert (seen["error"]["code"], seen["error"]["retryable"]) == ("storage_failed", True)
    assert seen["checkpoints"] == list(failed.checkpoints)
    assert failed.checkpoint_step == failed.checkpoints[-1] > 0
    objects = ObjectStore(settings.object_store)
    assert objects.get(reference_name(failed.id, 0)).startswith(b"\x89PNG")
    for step in failed.checkpoints:
        assert json.loads(objects.get(checkpoint_name(failed.id, step)))["step"] == step
    assert objects.names("concepts") == []


def _learn(client: TestClient, settings: ServiceSettings, token: str) -> np.ndarray:
    """The token's vectors after a run that nothing disturbs."""
    made = create(client, token=token, settings={"steps": 45, "seed": 7}).json()["id"]
    done = wait_for_job(settings, made, Status.SUCCEEDED, Status.FAILED)
    assert done.error is None
    content = client.get(f"/v1/concepts/{(done.result or {})['concept_id']}/embedding").content
    return load_concept(content, token=token).embeddings["clip"]


def test_an_object_store_that_dies_in_mid_job_fails_it_and_a_new_one_succeeds_later(
    stub: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The S3 server stops after a checkpoint and comes back; the failed job stays failed, its worker lives on."""
    with own_s3() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        away = stub.model_copy(update={"object_store_url": f"s3://{s3.bucket}/prefix"})
        with _api(away) as client, worker(away, **SLOW) as running:
            job_id = create(client, settings=ENDLESS).json()["id"]
            _wait_for_checkpoint(away, job_id)
            s3.stop()
            failed = wait_for_job(away, job_id, Status.FAILED)
            assert client.post(f"/v1/personalizations/{job_id}/resume").status_code == 409
            s3.start()
            _check_failed(client, away, failed)
            again = _learn(client, away, "<my-dog>")
            assert np.array_equal(again, _learn(client, away, "<undisturbed>"))
            assert running.process.poll() is None


@pytest.mark.parametrize("kept_bytes", [0, _CUT_BYTES], ids=["checkpoint", "concept"])
def test_a_full_disk_fails_the_job_and_leaves_nothing_half_written(
    client: TestClient, stub: ServiceSettings, kept_bytes: int
) -> None:
    """Full before a later checkpoint, or in the middle of the concept's file; with space, the next job runs."""
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


def test_a_full_disk_that_holds_the_database_too_delays_the_job(stub: ServiceSettings) -> None:
    """The failure cannot be recorded either: with space again the job goes on at its checkpoint by itself."""
    one_disk = stub.model_copy(update={"database_url": None, "lease_s": 1.0})
    begins = stub.data_dir / "begins"
    with _api(one_disk) as client, worker(one_disk, **SLOW, STUB_LOG=str(begins)) as running:
        job_id = create(client, settings={**ENDLESS, "steps": 300}).json()["id"]
        _wait_for_checkpoint(one_disk, job_id)
        _limit_files(running, 0)
        lost = wait_for(one_disk, job_id, _is_given_up, "a lease long over")
        assert lost.status is Status.RUNNING
        _limit_files(running, resource.RLIM_INFINITY)
        done = wait_for_job(one_disk, job_id, Status.SUCCEEDED, Status.FAILED)
    assert (done.error, done.attempts) == (None, 2)
    assert begins.read_text().splitlines() == [f"{job_id} 0", f"{job_id} {lost.checkpoint_step}"]


def _is_given_up(job: Job) -> bool:
    """Whether its worker, which tries to record a failure for two leases, has let it go."""
    return time.time() > (job.lease_expires_at or time.time()) + 8.0
