"""Usage ledger on both databases: each use counts once, on its day, and outlives its job."""

from __future__ import annotations

import pytest

from tests.integration.support.jobs import NOW, claimed, queue, reap
from zoodip_core.service import stored_objects, usage
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import leases, store
from zoodip_core.service.jobs.records import Lease
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.usage import Usage

DAY_S = 86_400.0
TODAY = usage.day_of(NOW)


def _record(database: Database, lease: Lease, used: Usage, now: float = NOW) -> None:
    with database.write() as connection:
        usage.record(connection, lease, used, now)


def _days(database: Database, owner: str = "alice") -> list[tuple[str, int, int, float, int]]:
    with database.read() as connection:
        found = usage.list_days(connection, owner, 0, TODAY + 10)
    return [(one.key_id, one.day - TODAY, one.evaluations, one.seconds, one.images) for one in found]


def test_a_repeated_write_counts_once(database: Database) -> None:
    """The same total can be written again after a lost commit reply; only the difference to it is added."""
    lease = leases.lease_of(claimed(database, queue(database, key_id="key_1").id))
    for used in (Usage(10, 1.5, 0), Usage(10, 1.5, 0), Usage(25, 2.0, 4)):
        _record(database, lease, used)
    assert _days(database) == [("key_1", 0, 25, 2.0, 4)]


def test_an_attempt_after_a_crash_adds_to_what_is_recorded(database: Database) -> None:
    """The next worker starts at the recorded total, and the one that lost its lease can add nothing."""
    lost = claimed(database, queue(database).id)
    _record(database, leases.lease_of(lost), Usage(10, 1.0, 0))
    reap(database, NOW)
    again = claimed(database, lost.id, "w2")
    assert (again.used_evaluations, again.used_seconds) == (10, 1.0)
    _record(database, leases.lease_of(lost), Usage(99, 9.0, 0))
    _record(database, leases.lease_of(again), Usage(15, 3.0, 1))
    assert _days(database) == [("", 0, 15, 3.0, 1)]


def test_a_job_over_midnight_counts_on_both_utc_days(database: Database) -> None:
    """Each part counts on the UTC day on which it was recorded."""
    lease = leases.lease_of(claimed(database, queue(database).id))
    midnight = (TODAY + 1) * DAY_S
    _record(database, lease, Usage(10, 1.0, 0), midnight - 0.5)
    _record(database, lease, Usage(17, 2.0, 0), midnight)
    assert _days(database) == [("", 1, 7, 1.0, 0), ("", 0, 10, 1.0, 0)]


def test_usage_outlives_its_job_and_its_objects_do_not(database: Database) -> None:
    """Deleting a job keeps its usage and stops counting its objects; owners are separate."""
    job = claimed(database, queue(database).id)
    name = f"jobs/{job.id}/images/0.png"
    _record(database, leases.lease_of(job), Usage(10, 1.0, 2))
    with database.write() as connection:
        stored_objects.add(connection, "alice", "", {name: 700})
        stored_objects.add(connection, "alice", "", {name: 900})  # the same object of a repeated attempt
        usage.sample_stored_bytes(connection, NOW)
        assert stored_objects.total_bytes(connection, "alice") == 900
        assert stored_objects.total_bytes(connection, "bob") == 0
        store.remove(connection, leases.finish(connection, leases.lease_of(job), Status.SUCCEEDED, NOW))
        assert stored_objects.total_bytes(connection, "alice") == 0
        usage.sample_stored_bytes(connection, NOW)
        (day,) = usage.list_days(connection, "alice", TODAY, TODAY)
    assert (day.evaluations, day.images, day.stored_bytes) == (10, 2, 900)
    assert _days(database, "bob") == []


def test_expired_days_are_merged_into_an_exact_total(database: Database) -> None:
    """Merging twice, with a new expired day in between, loses nothing and keeps the newer days."""
    lease = leases.lease_of(claimed(database, queue(database).id))
    for day, evaluations in ((0, 10), (1, 30), (2, 70)):
        _record(database, lease, Usage(evaluations, evaluations / 10, 0), NOW + day * DAY_S)
    for before in (TODAY + 1, TODAY + 2):
        with database.write() as connection:
            usage.merge_expired(connection, before)
            assert usage.totals(connection)["alice"] == Usage(70, pytest.approx(7.0), 0)
    assert _days(database) == [("", 2, 40, pytest.approx(4.0), 0), ("", -TODAY, 30, pytest.approx(3.0), 0)]
