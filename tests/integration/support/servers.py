"""The shared Redis, and private Redis and PostgreSQL servers that a test can restart and flush."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import redis

from tests.integration.support.postgresql import missing
from tests.integration.support.processes import accepts, free_port, stop, wait_until

_ACCOUNT = "postgres"  # initdb refuses root
_REDIS = os.environ.get("ZOODIP_TEST_REDIS_URL", "redis://127.0.0.1:6379/9")


def shared_redis_url() -> str:
    """Return the URL of the shared Redis, with a separate database for each parallel test process."""
    configured = urlsplit(_REDIS)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    url = configured._replace(path=f"/{int(configured.path.strip('/') or 0) + int(worker)}").geturl()
    try:
        with redis.Redis.from_url(url) as shared:
            shared.ping()
    except redis.RedisError:
        missing("Redis")
    return url


@contextmanager
def _frozen(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class RedisServer:
    """Private redis-server on a free port that a test can stop and start again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server with an empty data set."""
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
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: accepts(self.port), "redis-server")

    def stop(self) -> None:
        """Stop the server; its data is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            stop(self._process)
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the server within the block: it accepts connections and never answers."""
        assert self._process is not None
        with _frozen([self._process.pid]):
            yield


@contextmanager
def start_redis(folder: Path) -> Iterator[RedisServer]:
    """Run a private Redis server."""
    if shutil.which("redis-server") is None:
        missing("redis-server")
    redis = RedisServer(folder)
    redis.start()
    try:
        yield redis
    finally:
        redis.stop()


class PostgresCluster:
    """Private PostgreSQL cluster in a given folder."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"postgresql://{_ACCOUNT}@127.0.0.1:{self.port}/postgres"
        self._data = folder / "cluster"
        if os.geteuid() == 0:
            account = pwd.getpwnam(_ACCOUNT)
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", _ACCOUNT, "--no-sync")

    def control(self, *words: str) -> None:
        """Run `pg_ctl` with `start`, `stop` or `restart`."""
        options = f"-p {self.port} -k {self._data} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self._data / "log"), "-o", options, *words)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze all processes of the server within the block: it accepts connections and never answers."""
        postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        with _frozen([postmaster.pid, *(child.pid for child in postmaster.children())]):
            yield

    def _run(self, *command: str) -> None:
        prefix = ["runuser", "-u", _ACCOUNT, "--"] if os.geteuid() == 0 else []
        subprocess.run([*prefix, *command], check=True, stdout=subprocess.DEVNULL, cwd="/")


@contextmanager
def start_postgresql() -> Iterator[PostgresCluster]:
    """Run a private PostgreSQL server.

    It does not use `tmp_path`, because the account of PostgreSQL cannot read that folder.
    """
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        missing("initdb")
    with tempfile.TemporaryDirectory(prefix="zoodip-") as folder:
        cluster = PostgresCluster(Path(folder))
        cluster.control("start")
        try:
            yield cluster
        finally:
            cluster.control("stop", "-m", "immediate")
