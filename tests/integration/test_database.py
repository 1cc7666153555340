"""API keys, idempotency, webhook deliveries, worker registry and migrations, on both databases."""

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

REQUEST = IdempotencyRecord(
    owner="alice", route="POST /v1/personalizations", key="k1", request_hash="hash", began_at=NOW
)


def test_migrations_match_the_table_definitions(database: Database) -> None:
    """A migrated database has the tables of `tables.py`; migrating again changes nothing."""
    database.migrate()
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_api_key_is_stored_only_as_digest(database: Database) -> None:
    """A secret finds its key until it is revoked, and the table does not contain it."""
    secret = api_keys.new_secret()
    digest = api_keys.digest(secret)
    with database.write() as connection:
        assert not api_keys.any_exist(connection)
        key = api_keys.create(connection, secret, NOW, name="laptop")
        assert api_keys.find_by_digest(connection, digest) == key
        assert api_keys.find_by_digest(connection, api_keys.digest(secret + "x")) is None
        row = connection.exec_driver_sql("SELECT * FROM keys").one()
        assert secret not in str(row)
        assert key.prefix == secret[:9]
        api_keys.revoke(connection, key.id, NOW)
        assert api_keys.find_by_digest(connection, digest) is None
        assert api_keys.any_exist(connection)


def test_bad_key_values_are_named(database: Database) -> None:
    """An unknown scope, a short secret and an unknown id raise errors that name the value."""
    with database.write() as connection:
        with pytest.raises(InvalidInputError, match="scopes: got 'root'; expected one of read, write, admin"):
            api_keys.create(connection, api_keys.new_secret(), NOW, name="x", scopes=("root",))
        with pytest.raises(
            InvalidInputError, match="key: got 8 characters; expected zd_ followed by at least 22 characters"
        ):
            api_keys.create(connection, "zd_short", NOW, name="x")
        with pytest.raises(NotFoundError):
            api_keys.revoke(connection, "key_nope", NOW)


def test_rotation_keeps_the_previous_webhook_secret(database: Database) -> None:
    """After a rotation two secrets are active; older ones are removed."""
    with database.write() as connection:
        key = api_keys.create(connection, api_keys.new_secret(), NOW, name="x", owner="alice")
        (first,) = key.webhook_secrets
        second = api_keys.rotate_webhook_secret(connection, key.id).webhook_secrets
        third = api_keys.rotate_webhook_secret(connection, key.id).webhook_secrets
        assert second[1] == first
        assert third[1] == second[0]
        assert api_keys.webhook_secrets_of(connection, "alice") == third
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32


def test_bootstrap_key_is_created_once(database: Database) -> None:
    """Two starts with the same key create one key with all scopes."""
    secret = api_keys.new_secret()
    with database.write() as connection:
        for _ in range(2):
            api_keys.ensure(connection, secret, NOW, "bootstrap")
        (key,) = api_keys.list_all(connection)
    assert key.scopes == list(api_keys.SCOPES)


def test_idempotency_key_replays_the_first_response(database: Database) -> None:
    """The same request is replayed; a different or unfinished one fails; a failed or stale one restarts."""
    with database.write() as connection:
        assert idempotency.begin(connection, REQUEST) is None
        with pytest.raises(IdempotencyInFlightError):
            idempotency.begin(connection, REQUEST)
        idempotency.abandon(connection, REQUEST)
        assert idempotency.begin(connection, REQUEST) is None
        later = replace(REQUEST, began_at=NOW + 121)
        assert idempotency.begin(connection, later) is None  # the process of the first request died
        response = StoredResponse(status_code=202, headers={"Location": "/v1/x"}, body={"id": "x"})
        with pytest.raises(IdempotencyInFlightError):
            idempotency.finish(connection, REQUEST, response)  # or was slow: the record is taken over
        idempotency.abandon(connection, REQUEST)
        idempotency.finish(connection, later, response)
        assert idempotency.begin(connection, replace(REQUEST, began_at=NOW + 500)) == response
        with pytest.raises(IdempotencyMismatchError):
            idempotency.begin(connection, replace(REQUEST, request_hash="other"))
        assert idempotency.purge_expired(connection, NOW + 500) == 1


def _failed_with_webhook(database: Database, url: str = "https://example.org/hook") -> None:
    job = queue(database, webhook=url)
    with database.write() as connection:
        running = leases.claim(connection, job.id, "w", NOW, 30.0)
        assert running is not None
        leases.finish(connection, leases.lease_of(running), Status.FAILED, NOW, {"error": {"code": "x"}})


def test_delivery_is_retried_for_about_a_day(database: Database) -> None:
    """Retries follow the schedule and then stop; no other worker can claim a claimed delivery."""
    _failed_with_webhook(database)
    now, attempts = NOW, []
    while True:
        with database.write() as connection:
            taken = webhooks.claim_due(connection, now)
            assert webhooks.claim_due(connection, now) is None  # already claimed
        if taken is None:
            break
        with database.write() as connection:
            webhooks.record_result(connection, taken, 500, now)
        attempts.append(now - NOW)
        now += webhooks.RETRY_AFTER_S[min(len(attempts), 7) - 1] * 1.3
    assert len(attempts) == 1 + len(webhooks.RETRY_AFTER_S)
    assert 20 * 3600 < sum(webhooks.RETRY_AFTER_S) < 36 * 3600


def test_gone_url_receives_no_more_deliveries(database: Database) -> None:
    """A 410 ends all current and later deliveries to a URL; a 2xx ends one delivery."""
    a, b = "https://example.org/a", "https://example.org/b"
    for url in (a, a, b):
        _failed_with_webhook(database, url)
    with database.write() as connection:
        first, other = (
            webhooks.claim_due(connection, NOW, excluded_receivers=[("alice", url)]) for url in (b, a)
        )
        assert first is not None
        assert other is not None
        assert (first.url, other.url) == (a, b)
        webhooks.record_result(connection, other, 204, NOW)
        webhooks.record_result(connection, first, webhooks.GONE, NOW)
        assert webhooks.claim_due(connection, NOW + 10_000) is None
    _failed_with_webhook(database, a)
    with database.write() as connection:
        assert webhooks.claim_due(connection, NOW + 10_000) is None


def test_silent_and_draining_workers_do_not_count(database: Database) -> None:
    """Only workers that reported recently and are not draining are listed."""
    with database.write() as connection:
        worker_registry.report(connection, "w1", NOW, draining=False, stats={"slots": 8})
        worker_registry.report(connection, "w2", NOW, draining=True, stats={})
        assert [worker.id for worker in worker_registry.consuming(connection, NOW + 9, 10.0)] == ["w1"]
        assert worker_registry.consuming(connection, NOW + 11, 10.0) == []
        worker_registry.report(connection, "w1", NOW + 11, draining=False, stats={})
        assert worker_registry.consuming(connection, NOW + 12, 10.0)[0].started_at == NOW
        worker_registry.deregister(connection, "w1")
        assert worker_registry.consuming(connection, NOW + 12, 10.0) == []


def test_exception_rolls_the_transaction_back(database: Database) -> None:
    """An exception in `write()` undoes all changes of the transaction."""
    job = queue(database)

    def fail_half_way() -> None:
        with database.write() as connection:
            store.cancel(connection, job, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with database.read() as connection:
        assert store.find(connection, job.id).status is Status.QUEUED
