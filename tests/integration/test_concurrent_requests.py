"""Concurrent requests: token, quota and bootstrap-key checks do not race on SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from tests.integration.support.jobs import NOW
from tests.integration.support.keys import make_key
from tests.integration.support.photos import create
from zoodip_core.service import api_keys
from zoodip_core.service.database import Database
from zoodip_core.service.postgresql import SERVER_TIMEOUTS_S
from zoodip_core.service.settings import ServiceSettings

_THREADS = 6


def _run_concurrently(action: Callable[[int], Any]) -> list[Any]:
    """Call `action` on several threads at the same moment and return the results."""
    barrier = Barrier(_THREADS)

    def start(number: int) -> Any:
        barrier.wait()
        return action(number)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(start, range(_THREADS)))


def test_one_of_many_requests_gets_the_token(client: TestClient) -> None:
    """One request is accepted; the others get `token_taken` immediately, not after the personalization."""
    for attempt in range(3):
        token = f"<t{attempt}>"
        responses = _run_concurrently(lambda _, token=token: create(client, token=token))
        assert sorted(response.status_code for response in responses) == [202] + [409] * (_THREADS - 1)
        assert {response.json()["code"] for response in responses if response.status_code == 409} == {
            "token_taken"
        }


def test_quotas_hold_for_concurrent_requests(client: TestClient, settings: ServiceSettings) -> None:
    """Quotas of unfinished jobs (personalizations and generations) and of concepts hold."""
    two_jobs = make_key(settings, max_active_jobs=2)
    responses = _run_concurrently(lambda n: create(client, token=f"<a{n}>", headers=two_jobs).status_code)
    assert sorted(responses) == [202] * 2 + [429] * (_THREADS - 2)
    two_generations = make_key(settings, max_active_jobs=2)
    body = {"prompt": "a dog"}
    statuses = _run_concurrently(
        lambda _: client.post("/v1/generations", json=body, headers=two_generations).status_code
    )
    assert sorted(statuses) == [202] * 2 + [429] * (_THREADS - 2)
    three_concepts = make_key(settings, max_concepts=3)
    statuses = _run_concurrently(
        lambda n: create(client, token=f"<b{n}>", headers=three_concepts).status_code
    )
    assert sorted(statuses) == [202] * 3 + [429] * (_THREADS - 3)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_idle_transaction_does_not_block_other_writers(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends the idle session and rolls it back, and the next writer succeeds."""
    monkeypatch.setitem(SERVER_TIMEOUTS_S, "idle_in_transaction_session_timeout", 1)
    frozen, other = (Database(ServiceSettings(database_url=database_url).database) for _ in range(2))
    frozen.migrate()
    frozen_secret, other_secret = api_keys.new_secret(), api_keys.new_secret()

    def freeze() -> None:
        with frozen.write() as connection:
            api_keys.ensure(connection, frozen_secret, NOW, "frozen")
            with other.write() as waiting:
                api_keys.ensure(waiting, other_secret, NOW, "other")

    with pytest.raises(OperationalError):
        freeze()
    with other.read() as connection:
        assert [key.name for key in api_keys.list_all(connection)] == ["other"]
    frozen.close()
    other.close()


def test_concurrent_starts_create_one_bootstrap_key(database: Database) -> None:
    """Several processes ensure the same bootstrap key, and one row is inserted."""
    secret = api_keys.new_secret()

    def ensure(_number: int) -> None:
        with database.write() as connection:
            api_keys.ensure(connection, secret, NOW, "bootstrap")

    _run_concurrently(ensure)
    with database.read() as connection:
        assert len(api_keys.list_all(connection)) == 1
