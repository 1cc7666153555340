"""Health probes of `zoodip serve`: a worker is killed only for its own fault."""

from __future__ import annotations

import os
import resource
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from zoodip_core.cli.health_probes import worker_probe
from zoodip_core.service import worker_registry
from zoodip_core.service.database import Database
from zoodip_core.service.settings import ServiceSettings

PID = 12345


@contextmanager
def _full_disk() -> Iterator[None]:
    """Let the kernel refuse all writes of this process to files (EFBIG), as a full disk does (ENOSPC)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _report(database: Database, seen_at: float) -> None:
    with database.write() as connection:
        worker_id = f"{worker_registry.id_prefix(PID)}a"
        worker_registry.report(connection, worker_id, seen_at, draining=False, stats={})


def test_a_worker_that_cannot_report_on_a_full_disk_is_not_taken_for_hung(tmp_path: Path) -> None:
    """The probe says so only of a worker that did not report although the database takes writes."""
    settings = ServiceSettings(data_dir=tmp_path)
    database, responds = Database(settings.database), worker_probe(settings)
    database.migrate()
    _report(database, time.time())
    assert responds(PID) is True
    _report(database, time.time() - 3 * settings.lease_s)
    with _full_disk():
        assert responds(PID) is None
    assert responds(PID) is False
    assert responds(os.getpid()) is False
    database.close()


def test_a_silent_worker_is_hung_if_the_database_stays_locked(tmp_path: Path) -> None:
    """A worker that froze in a transaction holds the lock of SQLite until it is killed."""
    settings = ServiceSettings(data_dir=tmp_path)
    database, responds = Database(settings.database), worker_probe(settings)
    database.migrate()
    _report(database, time.time() - 3 * settings.lease_s)
    with closing(sqlite3.connect(str(database.engine.url.database))) as frozen:
        frozen.execute("BEGIN IMMEDIATE")
        assert responds(PID) is False
    database.close()
