"""Measurements and previews of a search take iterations, in which other jobs advance and the job can be stopped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support.jobs import queue
from tests.integration.support.photos import photo
from worker.diffusion_engine import DiffusionEngine
from worker.iteration import Iterations
from worker.job_context import JobContext
from worker.leased_writes import LeasedWriter
from worker.personalization_job import PersonalizationJob
from worker.stats import Stats
from worker.storage_retries import RetryingObjectStore
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import events, leases
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.object_store import ObjectStore, reference_name
from zoodip_core.service.settings import ServiceSettings

pytestmark = pytest.mark.slow

SEARCH = {"steps": 8, "n": 1, "fixed_rows": 6, "measure_every": 4, "checkpoint_every": 4}


class _Worker:
    """Engine and services of a worker, without its threads."""

    def __init__(self, database: Database, settings: ServiceSettings) -> None:
        self.engine, self.stats = DiffusionEngine(settings), Stats()
        self.writer = LeasedWriter(database, "w", 60.0)
        self.objects = ObjectStore(settings.object_store)
        store = RetryingObjectStore(self.objects, 1.0)
        self.context = JobContext(self.writer, store, settings, self.stats, lambda _: None)
        self.iterations = Iterations(self.engine, self.stats, settings.personalization_share)

    def claim(self) -> PersonalizationJob:
        """Claim the oldest queued job, and start its search."""
        job = self.writer.claim_next(JobKind.PERSONALIZATION)
        assert job is not None
        personalization = PersonalizationJob(job, self.engine, self.context)
        personalization.advance()
        return personalization

    def iterate(self, *running: PersonalizationJob) -> None:
        """Run one iteration."""
        for one, error in self.iterations.run([job for job in running if not job.finished], []):
            assert error is None
            one.advance()


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """URL of SQLite only: these tests are about the engine."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


@pytest.fixture
def here(database: Database, settings: ServiceSettings) -> _Worker:
    """Return a worker whose previews are due every four steps."""
    return _Worker(database, settings.model_copy(update={"preview_every": 4, "device": "cpu"}))


def _queue(database: Database, here: _Worker, token: str, **changes: Any) -> str:
    request: dict[str, Any] = {"initializer": "dog", "kind": "object", "captions": None, "replace": False}
    request |= {"settings": SEARCH | changes, "images": 1}
    job = queue(
        database,
        now=time.time(),
        base_model="tiny",
        token=token,
        request=request,
        total_steps=SEARCH["steps"],
    )
    here.objects.put(reference_name(job.id, 0), photo((64, 64)))
    return job.id


def _run_until(here: _Worker, job: PersonalizationJob, activity: str, step: int) -> None:
    while (job.search.activity, job.search.step) != (activity, step):
        here.iterate(job)


@pytest.mark.parametrize("activity", ["measure", "preview"])
def test_a_search_that_stops_meanwhile_ends_with_the_same_bits(
    database: Database, here: _Worker, activity: str
) -> None:
    """It stops within one iteration, and the resumed search has every loss and the vectors of a whole one."""
    for token in ("<whole>", "<parts>"):
        _queue(database, here, token)
    whole, first = here.claim(), here.claim()
    while not whole.finished:
        here.iterate(whole)
    _run_until(here, first, activity, 4)
    first.save_checkpoint()
    here.writer.requeue(first.lease)
    first.close()
    second = here.claim()
    assert (second.job.id, second.search.step) == (first.job.id, 4)
    while not second.finished:
        here.iterate(second)
    assert len(whole.search.fixed_losses) == 3
    assert second.search.fixed_losses == whole.search.fixed_losses
    assert second.search.state() == whole.search.state()


def test_others_advance_meanwhile(database: Database, here: _Worker) -> None:
    """While one search measures and draws its preview, another one takes a step in every iteration."""
    ids = [_queue(database, here, "<measuring>"), _queue(database, here, "<other>", measure_every=8)]
    first, other = here.claim(), here.claim()
    _run_until(here, other, "step", 0)
    _run_until(here, first, "measure", 4)
    activities = []
    while first.search.step == 4:
        activities.append(first.search.activity)
        before = other.search.step
        here.iterate(first, *[other] * (other.search.activity == "step" and before < 4))
        assert other.search.step == min(before + 1, 4)
    assert activities[:3] == ["measure"] * 3  # six samples in rows of two
    assert set(activities[3:-1]) == {"preview"}
    with database.read() as connection:
        previews = [event.data for event in events.after(connection, ids[0]) if event.type == "preview"]
    assert previews == [{"step": 4}]
    assert {"step", "measure", "preview", "decode"} <= here.stats.stages.keys()


def test_a_new_search_measures_before_its_first_step(database: Database, here: _Worker) -> None:
    """Until then there is no checkpoint, and a paused job starts again."""
    _queue(database, here, "<new>")
    job = here.claim()
    assert (job.search.activity, job.search.fixed_losses) == ("measure", [])
    job.save_checkpoint()
    requeued = here.writer.requeue(job.lease)
    assert (requeued.checkpoint_step, requeued.checkpoints) == (0, [])
    assert leases.lease_of(here.claim().job) != job.lease
