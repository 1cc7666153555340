"""Worker processes, started like `zoodip worker`."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tests.integration.support.processes import stop, wait_until
from zoodip_core.service import worker_registry
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.settings import ServiceSettings

ROOT = Path(__file__).parents[3]
STUB = "tests.integration.support.stub_engine:StubEngine"


def environment(settings: ServiceSettings, **extra: str) -> dict[str, str]:
    """Return the environment of a process with the given settings."""
    variables = {
        f"ZOODIP_{name.upper()}": ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in settings.model_dump(exclude_unset=True).items()
        if value is not None
    }
    return {**os.environ, "OMP_NUM_THREADS": "1", **variables, **extra}


class Worker:
    """Worker process in a separate process group."""

    def __init__(self, settings: ServiceSettings, log: Path, **extra: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker"],
                cwd=ROOT,
                env=environment(settings, **extra),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        """Send a signal to the worker and its children."""
        os.killpg(self.process.pid, number)

    def wait_for_log(self, entry: str, timeout_s: float = 30.0) -> None:
        """Return as soon as the log contains `entry`; fail with the log after the timeout."""
        try:
            wait_until(lambda: entry in self.log.read_text(), f"{entry} in a worker's log", timeout_s)
        except AssertionError as error:
            error.add_note(self.log.read_text())
            raise

    def kill(self) -> None:
        """Send SIGKILL, as the kernel does when memory is exhausted."""
        self.signal(signal.SIGKILL)
        self.process.wait()


def freeze(running: Worker, database: Database) -> None:
    """Send SIGSTOP to a worker outside of a transaction: a frozen one could block all other writers."""

    def is_frozen_outside() -> bool:
        running.signal(signal.SIGSTOP)
        if not _is_write_locked(database):
            return True
        running.signal(signal.SIGCONT)
        return False

    wait_until(is_frozen_outside, "a moment without a transaction of the worker")


def _is_write_locked(database: Database) -> bool:
    """Return whether an unfinished transaction has written."""
    try:
        if database.is_sqlite:
            with closing(sqlite3.connect(str(database.engine.url.database), timeout=0.2)) as connection:
                connection.execute("BEGIN IMMEDIATE")
        else:
            with database.write() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '200ms'"))
                connection.execute(text("LOCK TABLE jobs, events, workers IN EXCLUSIVE MODE"))
    except (sqlite3.OperationalError, OperationalError):
        return True
    return False


@contextmanager
def worker(settings: ServiceSettings, *, wait: bool = True, **extra: str) -> Iterator[Worker]:
    """Run a worker; with `wait`, yield it only after it has reported itself."""
    running = Worker(settings, Path(settings.data_dir) / f"worker-{time.monotonic_ns()}.log", **extra)
    try:
        if wait:
            wait_until_consuming(settings, running)
        yield running
    finally:
        if running.process.poll() is None:
            running.signal(signal.SIGCONT)
        stop(running.process)


def wait_until_consuming(settings: ServiceSettings, *workers: Worker) -> None:
    """Return when at least as many workers have reported themselves."""
    database = Database(settings.database)

    def consuming() -> bool:
        dead = [w.log.read_text() for w in workers if w.process.poll() is not None]
        assert not dead, dead
        with database.read() as connection:
            return len(worker_registry.consuming(connection, time.time(), 60.0)) >= len(workers)

    wait_until(consuming, "the report of a worker", 60)
    database.close()


def wait_for_job(settings: ServiceSettings, job_id: str, *statuses: Status, timeout_s: float = 60) -> Job:
    """Wait until a job has one of the given states, and return it."""
    return wait_for(settings, job_id, lambda job: job.status in statuses, f"{statuses}", timeout_s=timeout_s)


def wait_for(
    settings: ServiceSettings,
    job_id: str,
    condition: Callable[[Job], bool],
    what: str,
    *,
    timeout_s: float = 60,
) -> Job:
    """Wait until a condition holds for a job, and return the job."""
    database = Database(settings.database)

    def fetch() -> Job:
        with database.read() as connection:
            return store.find(connection, job_id)

    try:
        wait_until(lambda: condition(fetch()), f"{what} of {job_id}", timeout_s)
        return fetch()
    finally:
        database.close()
