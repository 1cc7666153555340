"""Word of a job's changes: heard through Redis by one subscription a process, missed without loss."""

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
from tests.integration.support.servers import OwnRedis, own_redis, shared_redis_url
from tests.integration.support.workers import STUB, worker
from zoodip_core.service.database import Database
from zoodip_core.service.job_notifications import ChangePublisher, channel
from zoodip_core.service.jobs import store
from zoodip_core.service.settings import ServiceSettings


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The embedded default."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnRedis]:
    """A Redis of the test's own."""
    (tmp_path / "redis").mkdir()
    with own_redis(tmp_path / "redis") as running:
        yield running


def _subscriptions(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.pubsub_numsub(channel(url))[0][1])


def test_a_committed_change_wakes_its_followers_and_no_others(tmp_path: Path) -> None:
    """With no look of its own for an hour, a follower returns when its job is cancelled, not for another job."""
    # The shared server's channel: a database number of this test's own is a channel of its own.
    url = shared_redis_url().rpartition("/")[0] + "/13"
    file = f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"
    with_no_sender = Database(file)  # word of the jobs' creation, sent late, would be heard as a change
    with_no_sender.migrate()
    followed, other = queue(with_no_sender), queue(with_no_sender)
    with_no_sender.close()
    sender = ChangePublisher(url)
    database = Database(file, on_change=sender.send)

    def cancel() -> None:
        with database.write() as connection:
            store.cancel(connection, followed, NOW)

    async def follow() -> None:
        changes = JobWatcher(url, fallback_poll_s=3600)
        with (
            changes.follow(followed.id, poll_interval_s=3600) as one,
            changes.follow(followed.id, poll_interval_s=3600) as two,
            changes.follow(other.id, poll_interval_s=3600) as stranger,
        ):
            for follower in (one, two, stranger):
                await follower.wait()  # the first time at once
            async with changes.listen():
                for follower in (one, two, stranger):
                    await follower.wait()  # it is heard from now on
                await asyncio.to_thread(cancel)
                await one.wait()
                await two.wait()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(stranger.wait(), 0.1)

    asyncio.run(follow())
    database.close()
    sender.close()


def test_listening_ends_whenever_it_is_told_to() -> None:
    """Stopped at every stage of connecting and subscribing: no stop is lost, or the API would never end."""
    url = shared_redis_url()

    async def start_and_stop() -> None:
        async with asyncio.timeout(60):
            for number in range(100):
                async with JobWatcher(url).listen():
                    await asyncio.sleep(number * 4e-5)

    asyncio.run(start_and_stop())


def test_what_is_rolled_back_is_not_told(tmp_path: Path) -> None:
    """`on_change` hears of committed transactions alone, once for a job, also on a connection that is used again."""
    told: list[str] = []
    database = Database(f"sqlite:///{tmp_path / 'zoodip.sqlite3'}", on_change=told.append)
    database.migrate()
    first = queue(database)

    def fail_half_way() -> None:
        with database.write() as connection:
            store.cancel(connection, first, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert told == [first.id]
    with database.write() as connection:
        paused = store.pause(connection, first, NOW)
        store.resume(connection, paused, NOW)
    assert told == [first.id, first.id]
    database.close()


class _Stream(threading.Thread):
    """Reads a job's events to their end."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.ids: list[int] = []
        self.steps: list[int] = []
        self.last = ""
        self._url = url
        self.start()

    def run(self) -> None:
        """Until the server ends it."""
        with httpx2.stream("GET", self._url, timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    self.ids.append(int(line[4:]))
                elif line.startswith("data: "):
                    self.last = line[6:]
                    data = json.loads(self.last)
                    if "total_steps" in data:
                        self.steps.append(data["step"])


def test_streams_outlive_a_restart_of_redis(settings: ServiceSettings, tmp_path: Path, own: OwnRedis) -> None:
    """Three streams, one subscription; Redis goes and comes back in mid-stream: each event comes once, in order."""
    settings.data_dir.mkdir(exist_ok=True)
    with_redis = settings.model_copy(update={"broker_url": own.url, "engine": STUB, "tick_s": 0.2})
    with api(with_redis, tmp_path / "api.log") as url, worker(with_redis, STUB_STEP_S="0.01"):
        made = httpx2.post(
            f"{url}/v1/personalizations",
            files=parts(photo()),
            data={"request": json.dumps({**REQUEST, "settings": {"steps": 100_000}})},
        )
        job = url + made.headers["Location"]
        streams = [_Stream(f"{job}/events") for _ in range(3)]

        def wait_for_news(what: str) -> None:
            before = [len(stream.steps) for stream in streams]
            wait_until(lambda: all(len(s.steps) > n for s, n in zip(streams, before, strict=True)), what, 60)

        wait_for_news("progress")
        wait_until(lambda: _subscriptions(own.url) == 1, "the subscription")
        wait_for_news("progress that is told")
        own.stop()
        wait_for_news("progress without Redis")
        wait_for_news("more of it")
        own.start()
        wait_until(lambda: _subscriptions(own.url) == 1, "the subscription again")
        wait_for_news("progress with Redis again")
        assert httpx2.post(f"{job}/cancel").status_code == 200
        for stream in streams:
            stream.join(60)
    for stream in streams:
        assert '"cancelled"' in stream.last
        assert stream.ids == sorted(set(stream.ids))
        assert stream.steps == list(range(0, stream.steps[-1] + 1, 10))
