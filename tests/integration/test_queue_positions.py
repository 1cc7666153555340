"""Positions in a long queue: exact near the front, from a cached order behind."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from tests.integration.support.jobs import NOW, queue
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.queue_order import MAX_AGE_S, QueueOrder
from zoodip_core.service.jobs.snapshots import EXACT_POSITIONS, list_page, snapshots
from zoodip_core.service.jobs.states import JobKind

_LENGTH = EXACT_POSITIONS + 30


@pytest.fixture
def ids(database: Database) -> list[str]:
    """Ids of the queued jobs, first in the queue first."""
    return [queue(database, now=NOW + number).id for number in range(_LENGTH)]


def _positions(database: Database, ids: list[str], order: QueueOrder | None) -> list[int | None]:
    with database.read() as connection:
        found = snapshots(connection, ids, order)
    return [found[job_id].queue_position for job_id in ids]


def test_cached_positions_equal_counted_ones(database: Database, ids: list[str]) -> None:
    """Polls and lists give the same positions with the cached order as by counting."""
    order = QueueOrder()
    assert _positions(database, ids, None) == list(range(_LENGTH))
    assert _positions(database, ids, order) == list(range(_LENGTH))
    with database.read() as connection:
        page, _ = list_page(connection, "alice", JobKind.PERSONALIZATION, limit=_LENGTH, queue_order=order)
    assert [job.queue_position for job in page] == list(reversed(range(_LENGTH)))


def test_order_is_read_at_most_once_a_second(database: Database, ids: list[str]) -> None:
    """Near the front a claim shows at once; behind it shows when the order is read again."""
    now = 0.0
    order = QueueOrder(clock_s=lambda: now)
    watched = [ids[50], ids[-1]]
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda _c, _k, sql, *_: statements.append(sql))
    assert _positions(database, watched, order) == [50, _LENGTH - 1]
    assert len(statements) == 2
    with database.write() as connection:
        leases.claim(connection, ids[0], "w", NOW, 30.0)
    newest = queue(database, now=NOW + _LENGTH).id
    statements.clear()
    assert _positions(database, [*watched, newest], order) == [49, _LENGTH - 1, _LENGTH]
    assert len(statements) == 1
    now = MAX_AGE_S
    assert _positions(database, [*watched, newest], order) == [49, _LENGTH - 2, _LENGTH - 1]


def test_positions_count_jobs_of_the_same_kind(database: Database, ids: list[str]) -> None:
    """Generations do not wait behind personalizations."""
    order = QueueOrder()
    generation = queue(database, kind=JobKind.GENERATION, now=NOW + _LENGTH).id
    assert _positions(database, [generation, ids[-1]], order) == [0, _LENGTH - 1]
