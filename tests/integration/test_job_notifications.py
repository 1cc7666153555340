"""Job-change notifications: one Redis subscription per process, and no event lost without Redis."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import redis

from api.job_watcher import JobWatcher
from tests.integration.support.apis import api
from tests.integration.support.jobs import NOW, queue
from tests.integration.support.photos import REQUEST, parts, photo
from tests.integration.support.processes import wait_until
from tests.integration.support.servers import RedisServer, shared_redis_url, start_redis
from tests.integration.support.workers import STUB, worker
from zoodip_core.service.database import Database
from zoodip_core.service.job_notifications import ChangePublisher, channel
from zoodip_core.service.jobs import resumption, store
from zoodip_core.service.settings import ServiceSettings


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """URL of the default SQLite database."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Redis server of one test."""
    (tmp_path / "redis").mkdir()
    with start_redis(tmp_path / "redis") as running:
        yield running


def _subscriptions(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.pubsub_numsub(channel(url))[0][1])


def test_committed_change_wakes_only_its_watchers(tmp_path: Path) -> None:
    """With a poll interval of one hour, a watcher returns when its job is cancelled, not when another job changes."""
    # A separate database number on the shared server gives a separate channel.
    url = shared_redis_url().rpartition("/")[0] + "/13"
    file = f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"
    silent = Database(file)  # a late notification of the jobs' creation would count as a change
    silent.migrate()
    followed, other = queue(silent), queue(silent)
    silent.close()
    publisher = ChangePublisher(url)
    database = Database(file, on_change=publisher.send)

    def cancel() -> None:
        with database.write() as connection:
            store.cancel(connection, followed, NOW)

    async def follow() -> None:
        watcher = JobWatcher(url, fallback_poll_s=3600)
        with (
            watcher.follow(followed.id, poll_interval_s=3600) as first,
            watcher.follow(followed.id, poll_interval_s=3600) as second,
            watcher.follow(other.id, poll_interval_s=3600) as unrelated,
        ):
            for subscription in (first, second, unrelated):
                await subscription.wait()  # the first wait returns at once
            async with watcher.listen():
                for subscription in (first, second, unrelated):
                    await subscription.wait()  # notifications are active
                await asyncio.to_thread(cancel)
                await first.wait()
                await second.wait()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(unrelated.wait(), 0.1)

    asyncio.run(follow())
    database.close()
    publisher.close()


def test_listener_stops_at_any_time() -> None:
    """A stop at any stage of connecting and subscribing ends the listener, so that the API can shut down."""
    url = shared_redis_url()

    async def start_and_stop() -> None:
        async with asyncio.timeout(60):
            for number in range(100):
                async with JobWatcher(url).listen():
                    await asyncio.sleep(number * 4e-5)

    asyncio.run(start_and_stop())


def test_rolled_back_change_is_not_published(tmp_path: Path) -> None:
    """`on_change` is called only after commits, once per job, and also on a reused connection."""
    changed: list[str] = []
    database = Database(f"sqlite:///{tmp_path / 'zoodip.sqlite3'}", on_change=changed.append)
    database.migrate()
    first = queue(database)

    def fail_half_way() -> None:
        with database.write() as connection:
            store.cancel(connection, first, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert changed == [first.id]
    with database.write() as connection:
        paused = store.pause(connection, first, NOW)
        resumption.resume(connection, paused, NOW)
    assert changed == [first.id, first.id]
    database.close()


class _Stream(threading.Thread):
    """Thread that reads the event stream of a job to its end."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.ids: list[int] = []
        self.steps: list[int] = []
        self.last = ""
        self._url = url
        self.start()

    def run(self) -> None:
        """Read until the server ends the stream."""
        with httpx2.stream("GET", self._url, timeout=60) as response:
            for line in response.iter_lines():
                if line.startswith("id: "):
                    self.ids.append(int(line[4:]))
                elif line.startswith("data: "):
                    self.last = line[6:]
                    data = json.loads(self.last)
                    if "total_steps" in data:
                        self.steps.append(data["step"])


def test_streams_survive_a_restart_of_redis(
    settings: ServiceSettings, tmp_path: Path, redis_server: RedisServer
) -> None:
    """Redis restarts during three streams with one subscription; each stream has each event once, in order."""
    settings.data_dir.mkdir(exist_ok=True)
    with_redis = settings.model_copy(update={"broker_url": redis_server.url, "engine": STUB, "tick_s": 0.2})
    with api(with_redis, tmp_path / "api.log") as url, worker(with_redis, STUB_STEP_S="0.01"):
        created = httpx2.post(
            f"{url}/v1/personalizations",
            files=parts(photo()),
            data={"request": json.dumps({**REQUEST, "settings": {"steps": 100_000}})},
        )
        job = url + created.headers["Location"]
        streams = [_Stream(f"{job}/events") for _ in range(3)]

        def wait_for_progress(what: str) -> None:
            before = [len(stream.steps) for stream in streams]
            wait_until(lambda: all(len(s.steps) > n for s, n in zip(streams, before, strict=True)), what, 60)

        wait_for_progress("progress")
        wait_until(lambda: _subscriptions(redis_server.url) == 1, "the subscription")
        wait_for_progress("progress with notifications")
        redis_server.stop()
        wait_for_progress("progress without Redis")
        wait_for_progress("more progress without Redis")
        redis_server.start()
        wait_until(lambda: _subscriptions(redis_server.url) == 1, "the renewed subscription")
        wait_for_progress("progress after the restart")
        assert httpx2.post(f"{job}/cancel").status_code == 200
        for stream in streams:
            stream.join(60)
    for stream in streams:
        assert '"cancelled"' in stream.last
        assert stream.ids == sorted(set(stream.ids))
        assert stream.steps == list(range(0, stream.steps[-1] + 1, 10))
