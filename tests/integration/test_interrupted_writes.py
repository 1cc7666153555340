"""Processes killed while they store an image: deletion and the daily cleanup leave nothing of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.support.jobs import queue
from tests.integration.support.processes import wait_until
from tests.integration.support.workers import ROOT
from zoodip_core.errors import StorageError
from zoodip_core.service import retention
from zoodip_core.service.database import Database
from zoodip_core.service.ids import new_id
from zoodip_core.service.object_store import ObjectStore, concept_name, job_prefix, reference_name
from zoodip_core.service.settings import ServiceSettings

_PUT = """
import sys
from zoodip_core.service.object_store import ObjectStore
objects = ObjectStore(sys.argv[1])
while True:
    objects.put(sys.argv[2], bytes(64_000_000))
"""
_HOUR_S = 3_600.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of the object store."""
    return tmp_path / "objects"


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _kill_in_mid_put(folder: Path, name: str) -> None:
    """Kill a process between the begin and the end of a write of the object; leave only the unfinished write."""
    process = subprocess.Popen([sys.executable, "-c", _PUT, folder.as_uri(), name], cwd=ROOT)

    def is_stopped_in_mid_put() -> bool:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # until it has stopped
        if (folder / f"{name}#1").exists():
            return True
        process.send_signal(signal.SIGCONT)
        return False

    try:
        wait_until(is_stopped_in_mid_put, "an unfinished write", 60)
    finally:
        process.kill()
        process.wait()
    (folder / name).unlink(missing_ok=True)  # of an earlier round of the loop


def test_deletion_removes_interrupted_writes(folder: Path) -> None:
    """Deleting a job or a single object leaves no file and no empty folder of it."""
    objects = ObjectStore(folder.as_uri())
    job_id, other = new_id("per"), new_id("per")
    objects.put(reference_name(other, 0), b"photo")
    _kill_in_mid_put(folder, reference_name(job_id, 1))
    objects.delete_all(job_prefix(job_id))
    assert _files(folder) == [reference_name(other, 0)]
    assert not (folder / job_prefix(job_id)).exists()
    _kill_in_mid_put(folder, reference_name(job_id, 1))
    objects.put(reference_name(job_id, 10), b"photo")
    objects.delete([reference_name(job_id, 1)])
    assert _files(folder) == sorted([reference_name(other, 0), reference_name(job_id, 10)])


def test_daily_cleanup_removes_interrupted_writes(database: Database, folder: Path) -> None:
    """Unfinished writes older than an hour are deleted, with and without a row; recent ones and other files stay."""
    objects = ObjectStore(folder.as_uri())
    known = queue(database).id
    names = [reference_name(known, 0), reference_name(new_id("per"), 0), concept_name(new_id("con"))]
    for name in names:
        _kill_in_mid_put(folder, name)
    foreign = folder / "jobs/mine/notes.txt#1"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    now = time.time()
    retention.purge_orphans(database, objects, ServiceSettings(), now)
    assert len(_files(folder)) == len(names) + 1
    retention.purge_orphans(database, objects, ServiceSettings(), now + _HOUR_S + 60)
    assert _files(folder) == ["jobs/mine/notes.txt#1"]


def test_an_unfinished_write_that_cannot_be_deleted_is_a_storage_error(folder: Path) -> None:
    """The caller learns that something of the object is left."""
    objects = ObjectStore(folder.as_uri())
    name = reference_name(new_id("per"), 0)
    (folder / f"{name}#1" / "inside").mkdir(parents=True)  # a folder cannot be unlinked
    with pytest.raises(StorageError, match="cannot delete"):
        objects.delete([name])
