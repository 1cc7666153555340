"""Frozen or unreachable PostgreSQL and Redis servers: requests get an answer instead of waiting with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy.exc import OperationalError

from tests.integration.support.apis import api
from tests.integration.support.jobs import queue
from tests.integration.support.processes import wait_until
from tests.integration.support.servers import PostgresCluster, RedisServer, start_postgresql, start_redis
from zoodip_core.service.database import Database
from zoodip_core.service.settings import ServiceSettings

_TIMEOUT_S = 30.0  # requests that wait for the server would exceed it


@pytest.fixture
def cluster() -> Iterator[PostgresCluster]:
    """PostgreSQL server of this test."""
    with start_postgresql() as cluster:
        yield cluster


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Redis server of this test."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with start_redis(folder) as server:
        yield server


def _generate(url: str) -> int:
    body = {"prompt": "a dog"}
    return httpx2.post(f"{url}/v1/generations", json=body, timeout=_TIMEOUT_S).status_code


def test_requests_fail_while_postgresql_is_frozen(
    cluster: PostgresCluster, tmp_path: Path, catalog: Path
) -> None:
    """Polls, lists, creations and readiness return 503, and the API recovers without a restart."""
    settings = ServiceSettings(data_dir=tmp_path, database_url=cluster.url, base_models=catalog)
    database = Database(settings.database)
    with (
        api(settings, tmp_path / "api.log") as url,
        httpx2.Client(base_url=url, timeout=_TIMEOUT_S) as client,
    ):
        job_id = queue(
            database, owner="local", request={"initializer": "dog", "kind": "object", "settings": {}}
        ).id
        paths = [f"/v1/personalizations/{job_id}", "/v1/personalizations", "/v1/concepts"]
        assert [client.get(path).status_code for path in paths] == [200] * 3
        with cluster.frozen():
            responses = [client.get(path) for path in [*paths, "/readyz"] * 3]
            assert {response.status_code for response in responses} == {503}
            assert {response.json()["code"] for response in responses} == {"database_unavailable"}
            assert _generate(url) == 503
        wait_until(lambda: client.get(paths[0]).status_code == 200, "a poll")
        wait_until(lambda: _generate(url) == 202, "a creation")
    database.close()


def test_statement_in_progress_ends_at_its_deadline(
    cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that was open when the server froze fails, and its connection is not used again."""
    monkeypatch.setattr("zoodip_core.service.database._WRITE_TIMEOUT_S", 1.0)
    database = Database(ServiceSettings(database_url=cluster.url).database)

    def write() -> None:
        with database.write() as connection:
            connection.exec_driver_sql("SELECT 1")
            with cluster.frozen():
                connection.exec_driver_sql("SELECT 2")

    with pytest.raises(OperationalError):
        write()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT 3").scalar() == 3
    database.close()


@pytest.mark.timeout(100)  # waiting for Redis would cost at least 6 s a request
@pytest.mark.parametrize("fault", ["frozen", "stopped"])
def test_creations_do_not_wait_for_redis(
    fault: str, redis_server: RedisServer, tmp_path: Path, catalog: Path
) -> None:
    """Creations succeed while Redis accepts connections without an answer, or refuses them."""
    settings = ServiceSettings(data_dir=tmp_path, broker_url=redis_server.url, base_models=catalog)
    with api(settings, tmp_path / "api.log") as url:
        assert _generate(url) == 202
        if fault == "stopped":
            redis_server.stop()
            assert [_generate(url) for _ in range(20)] == [202] * 20
        else:
            with redis_server.frozen():
                assert [_generate(url) for _ in range(20)] == [202] * 20
