"""Event streams during silence, deletion, key revocation and a database restart."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.integration.support.apis import api_thread
from tests.integration.support.jobs import NOW, queue
from tests.integration.support.keys import make_key
from tests.integration.support.servers import start_postgresql
from zoodip_core.service import api_keys
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import events, store
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.settings import ServiceSettings


@contextmanager
def _lines(url: str, job: Job, headers: dict[str, str] | None = None) -> Iterator[Iterator[str]]:
    """Yield the lines of a job's event stream. Reading raises an error if the connection breaks."""
    path = f"{url}/v1/personalizations/{job.id}/events"
    with httpx2.stream("GET", path, headers=headers, timeout=30) as response:
        assert response.status_code == 200
        yield response.iter_lines()


def _until(lines: Iterator[str], text: str) -> list[str]:
    seen = []
    for line in lines:
        seen.append(line)
        if text in line:
            return seen
    pytest.fail(f"no line contains {text}: {seen}")


def test_idle_stream_gets_pings(
    database: Database, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle stream sends comments, which keep proxies from closing it and which clients ignore."""
    job = queue(database, owner="local")
    monkeypatch.setattr("api.routes.events.PING_EVERY_S", 0.3)
    with api_thread(settings) as url, _lines(url, job) as lines:
        _until(lines, ": ping")
        _until(lines, ": ping")


def test_stream_replays_a_long_history(database: Database, settings: ServiceSettings) -> None:
    """The stream of an ended job sends more events than one query returns, in order, and then ends."""
    job = queue(database, owner="local")
    with database.write() as connection:
        for step in range(1_100):
            events.append(connection, job.id, "checkpoint", {"step": step}, NOW)
        store.cancel(connection, job, NOW)
    with api_thread(settings) as url, _lines(url, job) as lines:
        data = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [event["step"] for event in data if "step" in event] == list(range(1_100))
    assert data[-1] == {"status": "cancelled"}


def test_stream_ends_when_its_job_is_deleted(
    database: Database, settings: ServiceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """The server ends the stream of a deleted job without an error."""
    job = queue(database, owner="local")
    with api_thread(settings) as url, _lines(url, job) as lines:
        _until(lines, '"queued"')
        with database.write() as connection:
            store.remove(connection, store.cancel(connection, job, NOW))
        list(lines)
    assert "Exception" not in caplog.text


def test_revoking_a_key_ends_its_streams(database: Database, settings: ServiceSettings) -> None:
    """Streams end after the key is revoked, although the job continues."""
    header = make_key(settings, owner="alice")
    job = queue(database)
    with api_thread(settings) as url, _lines(url, job, header) as lines:
        _until(lines, '"queued"')
        with database.write() as connection:
            (key,) = api_keys.list_all(connection)
            api_keys.revoke(connection, key.id, time.time())
        list(lines)  # until the stream ends


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # starts its own PostgreSQL
def test_stream_survives_a_restart_of_postgresql(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream sends pings while the database is down and later events afterwards."""
    monkeypatch.setattr("api.routes.events.PING_EVERY_S", 0.3)
    with start_postgresql() as cluster:
        own = settings.model_copy(update={"database_url": cluster.url})
        database = Database(own.database)
        database.migrate()
        job = queue(database, owner="local")
        with api_thread(own) as url, _lines(url, job) as lines:
            _until(lines, '"queued"')
            cluster.control("stop", "-m", "fast")
            _until(lines, ": ping")
            _until(lines, ": ping")
            cluster.control("start")
            with database.write() as connection:
                store.cancel(connection, job, NOW)
            assert any('"cancelled"' in line for line in lines)
        database.close()
