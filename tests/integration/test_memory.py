"""Keys, idempotency, webhook deliveries, workers' presence and the tables themselves, on both databases."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.integration.support.jobs import NOW, queue
from zoodip_core.errors import InvalidInputError
from zoodip_core.service import api_keys, idempotency, worker_registry
from zoodip_core.service.database import Database
from zoodip_core.service.errors import IdempotencyInFlightError, IdempotencyMismatchError, NotFoundError
from zoodip_core.service.idempotency import IdempotencyRecord, StoredResponse
from zoodip_core.service.jobs import leases, store, webhooks
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.tables import metadata

TICKET = IdempotencyRecord(
    owner="alice", route="POST /v1/personalizations", key="k1", request_hash="hash", began_at=NOW
)


def test_migrations_make_the_tables_of_the_code(database: Database) -> None:
    """A migrated database and tables.py do not differ; migrating again changes nothing."""
    database.migrate()
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_key_is_stored_as_a_digest_only(database: Database) -> None:
    """The secret finds its key, is nowhere in the table, and stops working when revoked."""
    secret = api_keys.new_secret()
    with database.write() as connection:
        assert not api_keys.any_exist(connection)
        key = api_keys.create(connection, secret, NOW, name="laptop")
        assert api_keys.find(connection, secret) == key
        assert api_keys.find(connection, secret + "x") is None
        row = connection.exec_driver_sql("SELECT * FROM keys").one()
        assert secret not in str(row)
        assert key.prefix == secret[:9]
        api_keys.revoke(connection, key.id, NOW)
        assert api_keys.find(connection, secret) is None
        assert api_keys.any_exist(connection)


def test_key_mistakes_are_named(database: Database) -> None:
    """A scope that does not exist, a secret that is too short, an id that is unknown."""
    with database.write() as connection:
        with pytest.raises(InvalidInputError, match="unknown scope 'root'"):
            api_keys.create(connection, api_keys.new_secret(), NOW, name="x", scopes=("root",))
        with pytest.raises(InvalidInputError, match="at least 25 characters"):
            api_keys.create(connection, "zd_short", NOW, name="x")
        with pytest.raises(NotFoundError):
            api_keys.revoke(connection, "key_nope", NOW)


def test_a_rotated_webhook_secret_keeps_the_old_one_beside_it(database: Database) -> None:
    """Two secrets sign while receivers change over; the one before is gone."""
    with database.write() as connection:
        key = api_keys.create(connection, api_keys.new_secret(), NOW, name="x", owner="alice")
        (first,) = key.webhook_secrets
        second = api_keys.rotate_webhook_secret(connection, key.id).webhook_secrets
        third = api_keys.rotate_webhook_secret(connection, key.id).webhook_secrets
        assert second[1] == first
        assert third[1] == second[0]
        assert api_keys.webhook_secrets_of(connection, "alice") == third
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32


def test_the_bootstrap_key_is_made_once(database: Database) -> None:
    """Starting twice with the same key leaves one, with every scope."""
    secret = api_keys.new_secret()
    with database.write() as connection:
        for _ in range(2):
            api_keys.ensure(connection, secret, NOW, "bootstrap")
        (key,) = api_keys.list_all(connection)
    assert key.scopes == list(api_keys.SCOPES)


def test_an_idempotency_key_replays_refuses_and_waits(database: Database) -> None:
    """Same request: the first answer; another: refused; in flight: conflict; failed or stale: again."""
    with database.write() as connection:
        assert idempotency.begin(connection, TICKET) is None
        with pytest.raises(IdempotencyInFlightError):
            idempotency.begin(connection, TICKET)
        idempotency.abandon(connection, TICKET)
        assert idempotency.begin(connection, TICKET) is None
        later = replace(TICKET, began_at=NOW + 121)
        assert idempotency.begin(connection, later) is None  # the first one's process died
        answer = StoredResponse(status_code=202, headers={"Location": "/v1/x"}, body={"id": "x"})
        with pytest.raises(IdempotencyInFlightError):
            idempotency.finish(connection, TICKET, answer)  # or was slow: only one of the two counts
        idempotency.abandon(connection, TICKET)
        idempotency.finish(connection, later, answer)
        assert idempotency.begin(connection, replace(TICKET, began_at=NOW + 500)) == answer
        with pytest.raises(IdempotencyMismatchError):
            idempotency.begin(connection, replace(TICKET, request_hash="other"))
        assert idempotency.purge_expired(connection, NOW + 500) == 1


def _failed_with_webhook(database: Database, url: str = "https://example.org/hook") -> None:
    job = queue(database, webhook=url)
    with database.write() as connection:
        running = leases.claim(connection, job.id, "w", NOW, 30.0)
        assert running is not None
        leases.finish(connection, leases.lease_of(running), Status.FAILED, NOW, {"error": {"code": "x"}})


def test_a_delivery_is_tried_for_about_a_day(database: Database) -> None:
    """Retries follow the schedule with jitter and end; what one worker has in hand no other takes."""
    _failed_with_webhook(database)
    now, tries = NOW, []
    while True:
        with database.write() as connection:
            taken = webhooks.take_due(connection, now)
            assert webhooks.take_due(connection, now) is None  # in hand
        if taken is None:
            break
        with database.write() as connection:
            webhooks.settle(connection, taken, 500, now)
        tries.append(now - NOW)
        now += webhooks.RETRY_AFTER_S[min(len(tries), 7) - 1] * 1.3
    assert len(tries) == 1 + len(webhooks.RETRY_AFTER_S)
    assert 20 * 3600 < sum(webhooks.RETRY_AFTER_S) < 36 * 3600


def test_a_receiver_that_is_gone_is_told_nothing_more(database: Database) -> None:
    """410 ends what waits for this URL and what comes later; a 2xx ends its own message."""
    a, b = "https://example.org/a", "https://example.org/b"
    for url in (a, a, b):
        _failed_with_webhook(database, url)
    with database.write() as connection:
        first, other = (webhooks.take_due(connection, NOW, besides=[url]) for url in (b, a))
        assert first is not None
        assert other is not None
        assert (first.url, other.url) == (a, b)
        webhooks.settle(connection, other, 204, NOW)
        webhooks.settle(connection, first, webhooks.GONE, NOW)
        assert webhooks.take_due(connection, NOW + 10_000) is None
    _failed_with_webhook(database, a)
    with database.write() as connection:
        assert webhooks.take_due(connection, NOW + 10_000) is None


def test_a_silent_worker_does_not_count(database: Database) -> None:
    """Only workers that looked for work lately and are not draining consume."""
    with database.write() as connection:
        worker_registry.report(connection, "w1", NOW, draining=False, stats={"slots": 8})
        worker_registry.report(connection, "w2", NOW, draining=True, stats={})
        assert [worker.id for worker in worker_registry.consuming(connection, NOW + 9, 10.0)] == ["w1"]
        assert worker_registry.consuming(connection, NOW + 11, 10.0) == []
        worker_registry.report(connection, "w1", NOW + 11, draining=False, stats={})
        assert worker_registry.consuming(connection, NOW + 12, 10.0)[0].started_at == NOW
        worker_registry.deregister(connection, "w1")
        assert worker_registry.consuming(connection, NOW + 12, 10.0) == []


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    """An exception inside write() rolls everything back."""
    job = queue(database)

    def fail_half_way() -> None:
        with database.write() as connection:
            store.cancel(connection, job, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with database.read() as connection:
        assert store.find(connection, job.id).status is Status.QUEUED
