"""A missing or damaged checkpoint costs steps, not the job."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from tests.integration.support.databases import ON_SQLITE
from tests.integration.support.photos import create
from tests.integration.support.workers import STUB, wait_for, wait_for_job, worker
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import ObjectStore, checkpoint_name
from zoodip_core.service.settings import ServiceSettings

Damage = Callable[[ObjectStore, str], None]


@pytest.fixture
def settings(settings: ServiceSettings) -> ServiceSettings:
    """Return settings with the stub engine."""
    settings.data_dir.mkdir(exist_ok=True)
    return settings.model_copy(update={"engine": STUB, "tick_s": 0.2, "log_level": "INFO"})


def _delete(objects: ObjectStore, name: str) -> None:
    objects.delete([name])


def _truncate(objects: ObjectStore, name: str) -> None:
    objects.put(name, objects.get(name)[:10])


def _empty(objects: ObjectStore, name: str) -> None:
    objects.put(name, b"")


@ON_SQLITE
@pytest.mark.parametrize(("damage", "damaged"), [(_delete, 1), (_truncate, 2), (_empty, 3)])
def test_the_newest_usable_checkpoint_is_taken(
    client: TestClient, settings: ServiceSettings, damage: Damage, damaged: int
) -> None:
    """With 1 or 2 of 3 checkpoints damaged the job goes back to the one before, with all 3 to the start."""
    begins, objects = settings.data_dir / "begins", ObjectStore(settings.object_store)
    with worker(settings, STUB_STEP_S="0.02", STUB_LOG=str(begins)) as running:
        made = create(client, settings={"steps": 120})
        job_id, url = made.json()["id"], made.headers["Location"]
        wait_for(settings, job_id, lambda job: len(job.checkpoints) == 3, "three checkpoints")
        client.post(f"{url}/pause")
        kept = wait_for_job(settings, job_id, Status.PAUSED).checkpoints
        assert len(kept) == 3
        for step in kept[-damaged:]:
            damage(objects, checkpoint_name(job_id, step))
        client.post(f"{url}/resume")
        done = wait_for_job(settings, job_id, Status.SUCCEEDED, Status.FAILED)
        log = running.log.read_text()
    restarted_at = [0, *kept][-damaged - 1]
    assert (done.error, done.step) == (None, 120)
    assert begins.read_text().splitlines() == [f"{job_id} 0", f"{job_id} {restarted_at}"]
    assert log.count('"checkpoint_unusable"') == damaged
    assert f'"lost_steps": {kept[-1] - restarted_at}' in log
