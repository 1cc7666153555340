"""Requests that come together: names, quotas and first keys hold on PostgreSQL as on SQLite's one writer."""

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
from zoodip_core.service.database import _TIMEOUTS_S, Database
from zoodip_core.service.settings import ServiceSettings

_MANY = 6


def _together(act: Callable[[int], Any]) -> list[Any]:
    """What each of several threads gets that begin at once."""
    barrier = Barrier(_MANY)

    def begin(number: int) -> Any:
        barrier.wait()
        return act(number)

    with ThreadPoolExecutor(_MANY) as pool:
        return list(pool.map(begin, range(_MANY)))


def test_one_of_many_requests_gets_a_token(client: TestClient) -> None:
    """The others hear that it is taken, at once and not after a training."""
    for attempt in range(3):
        token = f"<t{attempt}>"
        answers = _together(lambda _, token=token: create(client, token=token))
        assert sorted(answer.status_code for answer in answers) == [202] + [409] * (_MANY - 1)
        assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"token_taken"}


def test_quotas_hold_among_many_requests(client: TestClient, settings: ServiceSettings) -> None:
    """Of unfinished jobs, personalizations and generations alike, and of concepts."""
    few = make_key(settings, max_active_jobs=2)
    answers = _together(lambda n: create(client, token=f"<a{n}>", headers=few).status_code)
    assert sorted(answers) == [202] * 2 + [429] * (_MANY - 2)
    drawing = make_key(settings, max_active_jobs=2)
    body = {"prompt": "a dog"}
    drawn = _together(lambda _: client.post("/v1/generations", json=body, headers=drawing).status_code)
    assert sorted(drawn) == [202] * 2 + [429] * (_MANY - 2)
    small = make_key(settings, max_concepts=3)
    learned = _together(lambda n: create(client, token=f"<b{n}>", headers=small).status_code)
    assert sorted(learned) == [202] * 3 + [429] * (_MANY - 3)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_who_freezes_in_a_transaction_does_not_hold_up_the_others(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends its session; what it wrote is not there, and the next one writes."""
    monkeypatch.setitem(_TIMEOUTS_S, "idle_in_transaction_session_timeout", 1)
    frozen, other = (Database(ServiceSettings(database_url=database_url).database) for _ in range(2))
    frozen.migrate()
    ours, theirs = api_keys.new_secret(), api_keys.new_secret()

    def freeze() -> None:
        with frozen.write() as connection:
            api_keys.ensure(connection, ours, NOW, "frozen")
            with other.write() as late:
                api_keys.ensure(late, theirs, NOW, "other")

    with pytest.raises(OperationalError):
        freeze()
    with other.read() as connection:
        assert [key.name for key in api_keys.list_all(connection)] == ["other"]
    frozen.close()
    other.close()


def test_processes_that_start_together_make_one_first_key(database: Database) -> None:
    """Each makes sure that the key of the environment is there."""
    secret = api_keys.new_secret()

    def ensure(_number: int) -> None:
        with database.write() as connection:
            api_keys.ensure(connection, secret, NOW, "bootstrap")

    _together(ensure)
    with database.read() as connection:
        assert len(api_keys.list_all(connection)) == 1
