"""Event streams that meet trouble: silence, a deletion, a revoked key, a database that is away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.integration.support.apis import api_here
from tests.integration.support.jobs import NOW, queue
from tests.integration.support.keys import make_key
from tests.integration.support.servers import own_postgresql
from zoodip_core.service import api_keys
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import events, store
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.settings import ServiceSettings


@contextmanager
def _lines(url: str, job: Job, headers: dict[str, str] | None = None) -> Iterator[Iterator[str]]:
    """The lines of a job's stream as they come; reading fails if the server breaks it off."""
    path = f"{url}/v1/personalizations/{job.id}/events"
    with httpx2.stream("GET", path, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        yield answer.iter_lines()


def _until(lines: Iterator[str], wanted: str) -> list[str]:
    seen = []
    for line in lines:
        seen.append(line)
        if wanted in line:
            return seen
    pytest.fail(f"{wanted} did not come, but {seen}")


def test_a_stream_without_news_is_kept_alive(
    database: Database, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comment comes now and then, which proxies count as traffic and clients ignore."""
    job = queue(database, owner="local")
    monkeypatch.setattr("api.routes.events.PING_EVERY_S", 0.3)
    with api_here(settings) as url, _lines(url, job) as lines:
        _until(lines, ": ping")
        _until(lines, ": ping")


def test_a_long_past_is_told_whole(database: Database, settings: ServiceSettings) -> None:
    """More events than one look gives, of a job that has ended: all of them, in order, and then the end."""
    job = queue(database, owner="local")
    with database.write() as connection:
        for step in range(1_100):
            events.append(connection, job.id, "checkpoint", {"step": step}, NOW)
        store.cancel(connection, job, NOW)
    with api_here(settings) as url, _lines(url, job) as lines:
        told = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [data["step"] for data in told if "step" in data] == list(range(1_100))
    assert told[-1] == {"status": "cancelled"}


def test_a_stream_ends_when_its_job_is_deleted(
    database: Database, settings: ServiceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """In order, not broken off, whether its last word came or not."""
    job = queue(database, owner="local")
    with api_here(settings) as url, _lines(url, job) as lines:
        _until(lines, '"queued"')
        with database.write() as connection:
            store.remove(connection, store.cancel(connection, job, NOW))
        list(lines)
    assert "Exception" not in caplog.text


def test_a_revoked_key_loses_its_open_streams(database: Database, settings: ServiceSettings) -> None:
    """A second later, as it loses all else, though the job goes on."""
    header = make_key(settings, owner="alice")
    job = queue(database)
    with api_here(settings) as url, _lines(url, job, header) as lines:
        _until(lines, '"queued"')
        with database.write() as connection:
            (key,) = api_keys.list_all(connection)
            api_keys.revoke(connection, key.id, time.time())
        list(lines)  # to their end


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # it brings its own
def test_a_stream_outlives_a_restart_of_postgresql(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing meanwhile and tells what happened after."""
    monkeypatch.setattr("api.routes.events.PING_EVERY_S", 0.3)
    with own_postgresql() as cluster:
        own = settings.model_copy(update={"database_url": cluster.url})
        database = Database(own.database)
        database.migrate()
        job = queue(database, owner="local")
        with api_here(own) as url, _lines(url, job) as lines:
            _until(lines, '"queued"')
            cluster.control("stop", "-m", "fast")
            _until(lines, ": ping")
            _until(lines, ": ping")
            cluster.control("start")
            with database.write() as connection:
                store.cancel(connection, job, NOW)
            assert any('"cancelled"' in line for line in lines)
        database.close()
