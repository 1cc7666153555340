"""The Redis that is there; and Redis and PostgreSQL of the tests' own, which may be restarted and flushed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import redis

from tests.integration.support.postgresql import missing
from tests.integration.support.processes import accepts, free_port, stop, wait_until

_ACCOUNT = "postgres"  # initdb refuses root
_REDIS = os.environ.get("ZOODIP_TEST_REDIS_URL", "redis://127.0.0.1:6379/9")


def shared_redis_url() -> str:
    """The URL of the Redis that is there, with a database for each process of tests that run side by side."""
    given = urlsplit(_REDIS)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    url = given._replace(path=f"/{int(given.path.strip('/') or 0) + int(worker)}").geturl()
    try:
        with redis.Redis.from_url(url) as shared:
            shared.ping()
    except redis.RedisError:
        missing("Redis")
    return url


class OwnRedis:
    """A redis-server on a port of its own, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, empty unless it saved something."""
        command = [
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self._folder),
            "--save",
            "",
        ]
        with (self._folder / "redis.log").open("ab") as log:
            self._running = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: accepts(self.port), "redis-server")

    def stop(self) -> None:
        """Stop it; it keeps nothing."""
        if self._running is not None:
            stop(self._running)
            self._running = None


@contextmanager
def own_redis(folder: Path) -> Iterator[OwnRedis]:
    """A running Redis."""
    if shutil.which("redis-server") is None:
        missing("redis-server")
    redis = OwnRedis(folder)
    redis.start()
    try:
        yield redis
    finally:
        redis.stop()


class OwnPostgresql:
    """A cluster in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"postgresql://{_ACCOUNT}@127.0.0.1:{self.port}/postgres"
        self._data = folder / "cluster"
        if os.geteuid() == 0:
            account = pwd.getpwnam(_ACCOUNT)
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", _ACCOUNT, "--no-sync")

    def control(self, *words: str) -> None:
        """pg_ctl start, stop or restart."""
        options = f"-p {self.port} -k {self._data} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self._data / "log"), "-o", options, *words)

    def _run(self, *command: str) -> None:
        prefix = ["runuser", "-u", _ACCOUNT, "--"] if os.geteuid() == 0 else []
        subprocess.run([*prefix, *command], check=True, stdout=subprocess.DEVNULL, cwd="/")


@contextmanager
def own_postgresql() -> Iterator[OwnPostgresql]:
    """A running PostgreSQL. Its folder is not pytest's: that one is closed to other accounts."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        missing("initdb")
    with tempfile.TemporaryDirectory(prefix="zoodip-") as folder:
        cluster = OwnPostgresql(Path(folder))
        cluster.control("start")
        try:
            yield cluster
        finally:
            cluster.control("stop", "-m", "immediate")
