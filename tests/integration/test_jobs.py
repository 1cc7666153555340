"""Jobs on both databases: transitions, events, lists, concepts and retention."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.support.jobs import NOW, queue
from zoodip_core.service import concepts, retention
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.database import Database
from zoodip_core.service.errors import ConflictError, NotFoundError, TokenTakenError
from zoodip_core.service.ids import new_id
from zoodip_core.service.jobs import events, leases, resumption, store
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.snapshots import list_page, snapshots
from zoodip_core.service.jobs.states import ENDED, TRANSITIONS, JobKind, Status, is_legal
from zoodip_core.service.object_store import ObjectStore, concept_name, reference_name
from zoodip_core.service.settings import ServiceSettings


def _in_state(database: Database, status: Status) -> Job:
    job = queue(database)
    with database.write() as connection:
        if status == Status.QUEUED:
            return job
        if status == Status.PAUSED:
            return store.pause(connection, job, NOW)
        running = leases.claim(connection, job.id, "w", NOW, 30.0)
        assert running is not None
        return (
            running
            if status == Status.RUNNING
            else leases.finish(connection, leases.lease_of(running), status, NOW)
        )


@pytest.mark.parametrize("source", list(Status))
def test_only_legal_transitions_succeed(database: Database, source: Status) -> None:
    """From each state, `transition` reaches exactly the states in `TRANSITIONS`."""
    for target in Status:
        job = _in_state(database, source)
        with database.write() as connection:
            moved = store.transition(connection, job.id, target, NOW)
        assert (moved is not None) == is_legal(source, target)
        if moved is not None:
            assert moved.status is target


def test_only_a_failed_job_goes_on_after_its_end() -> None:
    """Succeeded and cancelled are final; a failed job can be resumed."""
    assert {status: TRANSITIONS[status] for status in ENDED} == {
        Status.SUCCEEDED: frozenset(),
        Status.FAILED: {Status.QUEUED},
        Status.CANCELLED: frozenset(),
    }


def test_cancel_racing_completion_ends_in_one_state(database: Database) -> None:
    """In each of 20 races the first write wins and the other changes nothing."""
    for _ in range(20):
        job = _in_state(database, Status.RUNNING)

        def complete(job: Job = job) -> Job:
            with database.write() as connection:
                return leases.finish(connection, leases.lease_of(job), Status.SUCCEEDED, NOW)

        def cancel(job: Job = job) -> Job:
            with database.write() as connection:
                return store.cancel(connection, job, NOW)

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.submit(complete), pool.submit(cancel)
            assert first.result().status is Status.SUCCEEDED
            assert second.result().status in (Status.SUCCEEDED, Status.RUNNING)
        with database.read() as connection:
            assert store.find(connection, job.id).status is Status.SUCCEEDED
            statuses = [
                event.data["status"] for event in events.after(connection, job.id) if event.type == "status"
            ]
        assert statuses == ["queued", "running", "succeeded"]


def test_cancel_pause_and_resume_are_idempotent(database: Database) -> None:
    """A repeated call gives the same result, and a pause does not replace a cancel request."""
    job = queue(database)
    with database.write() as connection:
        for _ in range(2):
            assert store.pause(connection, job, NOW).status is Status.PAUSED
        for _ in range(2):
            assert resumption.resume(connection, job, NOW + 5).status is Status.QUEUED
        running = leases.claim(connection, job.id, "w", NOW, 30.0)
        assert running is not None
        assert store.cancel(connection, running, NOW).stop_request == "cancel"
        assert store.pause(connection, running, NOW).stop_request == "cancel"
        leases.finish(connection, leases.lease_of(running), Status.CANCELLED, NOW)
        assert store.cancel(connection, running, NOW).status is Status.CANCELLED
        with pytest.raises(ConflictError):
            store.pause(connection, running, NOW)
        with pytest.raises(ConflictError):
            resumption.resume(connection, running, NOW)


def test_resume_continues_at_the_checkpoint(database: Database) -> None:
    """A resumed job has the step of its checkpoint."""
    job = _in_state(database, Status.RUNNING)
    lease = leases.lease_of(job)
    with database.write() as connection:
        leases.record(connection, lease, NOW, values={"step": 73, "checkpoint_step": 73, "checkpoints": [73]})
        leases.finish(connection, lease, Status.PAUSED, NOW)
        assert resumption.resume(connection, job, NOW).step == 73


def test_owners_see_only_their_jobs(database: Database) -> None:
    """A job of another owner or kind is not found, and the other owner's list is empty."""
    job = queue(database, owner="alice")
    with database.read() as connection:
        assert store.find(connection, job.id, owner="alice").id == job.id
        with pytest.raises(NotFoundError):
            store.find(connection, job.id, owner="bob")
        with pytest.raises(NotFoundError):
            store.find(connection, job.id, kind=JobKind.GENERATION)
        assert list_page(connection, "bob", JobKind.PERSONALIZATION) == ([], False)


def test_pages_contain_each_job_once(database: Database) -> None:
    """Pages list each job once, newest first, and filter by status and metadata."""
    jobs = [queue(database, now=NOW + n, metadata={"team": "ab"[n % 2]}) for n in range(7)]
    seen: list[str] = []
    cursor, more = None, True
    with database.read() as connection:
        while more:
            page, more = list_page(connection, "alice", JobKind.PERSONALIZATION, after=cursor, limit=3)
            seen += [job.id for job in page]
            cursor = seen[-1]
        assert seen == [job.id for job in reversed(jobs)]
        team, _ = list_page(connection, "alice", JobKind.PERSONALIZATION, metadata={"team": "b"})
        assert len(team) == 3
        none, _ = list_page(connection, "alice", JobKind.PERSONALIZATION, status=Status.FAILED)
        assert none == []


def test_queue_position_counts_earlier_jobs(database: Database) -> None:
    """The position counts earlier queued jobs of the same kind; a job that is not queued has none."""
    ids = [queue(database, now=NOW + n).id for n in (2, 1, 3)]
    queue(database, kind=JobKind.GENERATION, now=NOW - 1)
    with database.write() as connection:
        found = snapshots(connection, [*ids, "per_nope"])
        assert {job_id: one.queue_position for job_id, one in found.items()} == {
            ids[0]: 1,
            ids[1]: 0,
            ids[2]: 2,
        }
        leases.claim(connection, ids[1], "w", NOW, 30.0)
        page, _ = list_page(connection, "alice", JobKind.PERSONALIZATION)
        assert {one.id: one.queue_position for one in page} == {ids[0]: 0, ids[1]: None, ids[2]: 1}


def test_only_ended_jobs_can_be_deleted(database: Database) -> None:
    """Deleting a running job is a conflict; an ended job is deleted with its events."""
    running, ended = _in_state(database, Status.RUNNING), _in_state(database, Status.SUCCEEDED)
    with database.write() as connection:
        with pytest.raises(ConflictError):
            store.remove(connection, running)
        store.remove(connection, ended)
        assert events.after(connection, ended.id) == []


def test_token_is_unique_for_owner_and_model(database: Database) -> None:
    """The token of a concept or an unfinished job is refused; `replace` replaces the concept."""
    first, second = (_concept(f"c{n}") for n in range(2))
    with database.write() as connection:
        assert concepts.add(connection, first, replace=False) is None
        with pytest.raises(TokenTakenError):
            concepts.add(connection, second, replace=False)
        with pytest.raises(TokenTakenError):
            concepts.check_token_available(connection, "alice", "emoji", "<my-dog>")
        assert concepts.add(connection, second, replace=True) == first
        assert concepts.find_by_token(connection, "alice", "emoji", "<my-dog>") == second
        concepts.check_token_available(connection, "bob", "emoji", "<my-dog>")
    queue(database, token="<my-cat>")
    with database.read() as connection, pytest.raises(TokenTakenError):
        concepts.check_token_available(connection, "alice", "emoji", "<my-cat>")


def test_retention_deletes_data_but_not_the_job(database: Database, tmp_path: Path) -> None:
    """Purging deletes the objects and events of an old ended job, and nothing of a recent one."""
    objects = ObjectStore(f"file://{tmp_path}/objects")
    old = _in_state(database, Status.FAILED)
    objects.put(reference_name(old.id, 0), b"photo")
    settings = ServiceSettings(retention_days=30)
    assert retention.purge(database, objects, settings, NOW + 29 * 86_400) == []
    assert retention.purge(database, objects, settings, NOW + 31 * 86_400) == [old.id]
    assert objects.names(f"jobs/{old.id}/") == []
    with database.read() as connection:
        assert store.find(connection, old.id).purged_at is not None
        assert events.after(connection, old.id) == []
    assert retention.purge(database, objects, settings, NOW + 31 * 86_400) == []


def test_orphaned_objects_are_deleted_after_an_hour(database: Database, tmp_path: Path) -> None:
    """Old objects without a row are deleted; recent objects, those with a row and foreign files stay."""
    objects = ObjectStore(f"file://{tmp_path}/objects")
    known, orphan, recent = queue(database).id, new_id("per", NOW), new_id("per", NOW + 7200)
    for job_id in (known, orphan, recent):
        objects.put(reference_name(job_id, 0), b"photo")
    foreign = ["concepts/.DS_Store", "concepts/copy_of_mine.safetensors", "jobs/lost+found/x", "jobs/README"]
    for name in foreign:
        objects.put(name, b"foreign")
    stored, lost = replace(_concept("con"), id=new_id("con", NOW)), new_id("con", NOW)
    with database.write() as connection:
        concepts.add(connection, stored, replace=False)
    for concept_id in (stored.id, lost):
        objects.put(concept_name(concept_id), b"vectors")
    assert retention.purge_orphans(database, objects, ServiceSettings(), NOW + 7200) == [orphan, lost]
    kept = [concept_name(stored.id), *(reference_name(job_id, 0) for job_id in (known, recent))]
    assert sorted(objects.names("")) == sorted(kept + foreign)


def test_failed_reference_deletion_is_retried(database: Database, tmp_path: Path) -> None:
    """The orphan cleanup deletes the reference images of succeeded jobs and keeps those of failed jobs."""
    objects = ObjectStore(f"file://{tmp_path}/objects")
    succeeded, failed = (_in_state(database, status) for status in (Status.SUCCEEDED, Status.FAILED))
    for job in (succeeded, failed):
        objects.put(reference_name(job.id, 0), b"photo")
    retention.purge_orphans(database, objects, ServiceSettings(), NOW)
    assert len(objects.names("jobs/")) == 2
    retention.purge_orphans(database, objects, ServiceSettings(delete_references_on_success=True), NOW)
    assert objects.names("jobs/") == [reference_name(failed.id, 0)]


def _concept(name: str) -> ConceptRecord:
    return ConceptRecord(
        id=new_id(name),
        owner="alice",
        token="<my-dog>",
        kind="object",
        base_model="emoji",
        fingerprint="f" * 64,
        precision="int8",
        vectors=1,
        created_at=NOW,
        from_personalization=None,
    )
