"""Workers are killed, or have wrong clocks: no job is lost or repeated, and only the job that kills workers fails."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from sqlalchemy import ColumnElement, func, select

from tests.integration.support.databases import ON_POSTGRESQL, ON_SQLITE
from tests.integration.support.forked_workers import ForkedWorker
from tests.integration.support.jobs import WITHOUT_PHOTOS, queue
from tests.integration.support.processes import wait_until
from tests.integration.support.stub_engine import POISON_SEED
from tests.integration.support.workers import STUB
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.states import ENDED, Status
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tables import concepts, events, jobs

# The full test, which takes ten minutes or more: ZOODIP_TEST_KILLS=200 ZOODIP_TEST_JOBS=300
KILLS = int(os.environ.get("ZOODIP_TEST_KILLS", "10"))
JOBS = int(os.environ.get("ZOODIP_TEST_JOBS", "15"))
WORKERS, SLOTS = 3, 8
STEPS_PER_KILL = 20 * WORKERS * SLOTS  # of all jobs together, on average
STALL_S = 180.0  # without progress of any job


@pytest.fixture
def stub(settings: ServiceSettings) -> ServiceSettings:
    """Settings with a stub engine and short leases."""
    settings.data_dir.mkdir(exist_ok=True)
    changes = {"engine": STUB, "lease_s": 2.0, "heartbeat_s": 0.4, "tick_s": 0.2, "log_level": "ERROR"}
    return settings.model_copy(update={**changes, "slots": SLOTS, "broker_url": None})


class Fleet:
    """Three workers; a dead one is replaced as a supervisor does."""

    def __init__(self, settings: ServiceSettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._workers = [ForkedWorker(settings) for _ in range(WORKERS)]

    def kill_one(self) -> None:
        """Kill a random worker."""
        random.choice(self._workers).kill()

    def replace_dead(self) -> bool:
        """Start a worker for each dead one; return whether all of them have reported themselves."""
        self._workers = [w if w.is_alive else ForkedWorker(self._settings) for w in self._workers]
        return all(worker.has_reported(self._database) for worker in self._workers)

    def stop(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.kill()


def _scalar(database: Database, query: object, *where: ColumnElement[bool]) -> int:
    with database.read() as connection:
        return int(connection.execute(select(query).where(*where)).scalar() or 0)


def _ended(database: Database) -> int:
    return _scalar(database, func.count(), jobs.c.status.in_(ENDED))


def _saved_steps(database: Database) -> int:
    return _scalar(database, func.sum(jobs.c.checkpoint_step))


def _each_time(progress: Callable[[], int], gap: Callable[[], float]) -> Callable[[], bool]:
    """Return a function that is true once whenever `progress` has grown by the next `gap`."""
    due = gap()

    def has_grown() -> bool:
        nonlocal due
        current = progress()
        if current < due:
            return False
        due = current + gap()
        return True

    return has_grown


def _run_to_the_end(
    stub: ServiceSettings, database: Database, total: int, kills: int, may_kill: Callable[[], bool]
) -> None:
    """Run all jobs to their end, and kill `kills` random workers, each when `may_kill` says so."""
    fleet, seen, end = Fleet(stub, database), -1, 0.0
    try:
        while (ended := _ended(database)) < total:
            progress = ended + _saved_steps(database)
            if progress > seen:
                seen, end = progress, time.monotonic() + STALL_S
            assert time.monotonic() < end, f"{ended} of {total} jobs ended, {kills} kills left"
            if fleet.replace_dead() and kills and may_kill():
                fleet.kill_one()
                kills -= 1
            time.sleep(0.02)
    finally:
        fleet.stop()
    assert kills == 0


def _check_results(database: Database, succeeded: Sequence[str]) -> None:
    """Validate that these jobs and no others succeeded, with one concept and one final event each."""
    assert _scalar(database, func.count(), jobs.c.status == Status.SUCCEEDED) == len(succeeded)
    ends = select(events.c.job_id, func.count()).where(
        events.c.type == "status", events.c.data["status"].as_string().in_(list(ENDED))
    )
    with database.read() as connection:
        assert {count for _, count in connection.execute(ends.group_by(events.c.job_id))} == {1}
        learned = connection.execute(select(concepts.c.from_personalization)).scalars()
        assert sorted(learned) == sorted(succeeded)


@ON_POSTGRESQL
@pytest.mark.long
@pytest.mark.timeout(0)  # ends by itself when no job advances
def test_only_the_job_that_kills_its_worker_fails(stub: ServiceSettings, database: Database) -> None:
    """While workers are killed at random moments, all jobs succeed, except one that always kills its worker."""
    random.seed(0)
    total_steps = 2 * STEPS_PER_KILL * KILLS // JOBS  # enough for all kills
    settings = {**WITHOUT_PHOTOS["settings"], "checkpoint_every": 5, "measure_every": 1_000}
    innocent = []
    for number in range(JOBS + 1):
        seed = POISON_SEED if number == JOBS // 2 else number
        request = {**WITHOUT_PHOTOS, "settings": {**settings, "seed": seed}}
        now = time.time() + number / 1_000
        job = queue(database, now=now, token=f"<t{number}>", total_steps=total_steps, request=request)
        if seed == POISON_SEED:
            poison = job
        else:
            innocent.append(job.id)
    may_kill = _each_time(partial(_saved_steps, database), lambda: random.uniform(0, 2) * STEPS_PER_KILL)
    _run_to_the_end(stub, database, JOBS + 1, KILLS, may_kill)
    with database.read() as connection:
        failed = store.find(connection, poison.id)
    assert (failed.status, (failed.error or {})["code"]) == (Status.FAILED, "worker_lost")
    _check_results(database, innocent)


@ON_SQLITE
@pytest.mark.timeout(0)  # ends by itself when no job advances
def test_killed_workers_lose_and_repeat_no_job(stub: ServiceSettings, database: Database) -> None:
    """Four times a worker is killed after 60 of 400 short jobs, which save no checkpoint: all succeed once."""
    random.seed(0)
    many = stub.model_copy(update={"slots": 20})
    ids = [
        queue(database, now=time.time(), token=f"<t{k}>", total_steps=3, request=WITHOUT_PHOTOS).id
        for k in range(400)
    ]
    may_kill = _each_time(partial(_ended, database), lambda: 60.0)
    _run_to_the_end(many, database, len(ids), 4, may_kill)
    _check_results(database, ids)


def _an_hour_ahead_every_second(elapsed_s: float) -> float:
    return 3_600.0 * int(elapsed_s)


def _a_minute_behind(_elapsed_s: float) -> float:
    return -60.0


@ON_POSTGRESQL
@pytest.mark.timeout(240)
def test_wrong_clocks_cost_no_attempt(stub: ServiceSettings, database: Database) -> None:
    """Each job is claimed once, though one worker is 60 s behind and another jumps by an hour each second."""
    patient = stub.model_copy(update={"lease_s": 15.0, "slots": 4})
    request = {**WITHOUT_PHOTOS, "settings": {**WITHOUT_PHOTOS["settings"], "checkpoint_every": 100}}
    ids = [
        queue(database, now=time.time(), token=f"<t{k}>", total_steps=1_000, request=request).id
        for k in range(12)
    ]
    clocks = (None, _a_minute_behind, _an_hour_ahead_every_second)
    running = [ForkedWorker(patient, clock) for clock in clocks]
    try:
        wait_until(lambda: _ended(database) == len(ids), "the end of all jobs", 180)
    finally:
        for worker in running:
            worker.kill()
    _check_results(database, ids)
    assert _scalar(database, func.max(jobs.c.fence)) == 1
