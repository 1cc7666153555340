"""A database by URL: SQLite in WAL mode or PostgreSQL, read and write transactions, migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError

BUSY_TIMEOUT_S = 30.0
_OVERFLOW = 35  # beyond ten: for forty threads, those that look for keys, and the connection that polls keep
_MIGRATION_LOCK = 5_270_117  # any constants: PostgreSQL's advisory locks of our migrations
_CREATION_LOCK = 5_270_118  # and of what makes jobs and concepts
_CHANGED = "zoodip_changed_jobs"
# Of PostgreSQL: a process that freezes within a transaction must not hold up all others, whose patience is longer.
_TIMEOUTS_S = {"lock_timeout": 30, "idle_in_transaction_session_timeout": 20}


class Database:
    """Connections to the service's database. Threads share one of these; processes make their own.

    Args:
        url: SQLAlchemy's URL.
        pool_size: connections that are kept.
        on_change: told the id of each job that got an event, after the commit.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, on_change: Callable[[str], None] | None = None
    ) -> None:
        self.url = url
        self._on_change = on_change
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self.engine = _sqlite(url, pool_size) if self.is_sqlite else _postgresql(url, pool_size)
        # A read is spared its BEGIN and ROLLBACK: PostgreSQL's connections are pooled in autocommit, which each
        # write leaves for its time.
        writes = {"zoodip_writes": True} if self.is_sqlite else {"isolation_level": "READ COMMITTED"}
        self._reading = self.engine.execution_options(zoodip_reads=True)
        self._writing = self.engine.execution_options(**writes)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that only reads; each query sees what was committed before it."""
        with self._reading.connect() as connection:
            yield connection

    def connect(self) -> Connection:
        """A connection to keep, such as that of `read`; the caller closes it."""
        return self._reading.connect()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end, or leaves nothing behind an exception.

        On SQLite it takes the write lock at once: a transaction that reads first and writes later would
        otherwise fail when another writer came between, whatever the timeout.
        """
        with self._writing.connect() as connection:
            changed: set[str] = set()
            connection.info[_CHANGED] = changed
            with connection.begin():
                yield connection
        if self._on_change is not None:
            for job_id in changed:
                self._on_change(job_id)

    def migrate(self) -> None:
        """Bring the tables to the newest form; safe when several processes start together."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        with self.write() as connection:
            if not self.is_sqlite:
                connection.execute(text("SET LOCAL lock_timeout = 0"))  # others may have much to migrate
            _wait_for(_MIGRATION_LOCK, connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()


def acquire_creation_lock(connection: Connection) -> None:
    """Until this transaction ends no other one passes here, so what it counts and looks up stays true.

    SQLite has one writer at a time anyhow.
    """
    _wait_for(_CREATION_LOCK, connection)


def _wait_for(lock: int, connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock})


def mark_changed(connection: Connection, job_id: str) -> None:
    """Have `on_change` told of the job if this transaction commits."""
    connection.info.setdefault(_CHANGED, set()).add(job_id)


def _sqlite(url: str, pool_size: int) -> Engine:
    path = make_url(url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        pool_size=pool_size,
        max_overflow=_OVERFLOW,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("zoodip_reads", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("zoodip_writes", False) else "BEGIN")

    return engine


def _postgresql(url: str, pool_size: int) -> Engine:
    # The ping finds connections from before a restart of the server (polls, for which it would cost too much, do not
    # come through here). Statements are not prepared: a plan made while a table was small would be kept.
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=_OVERFLOW,
        isolation_level="AUTOCOMMIT",
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"prepare_threshold": None},
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: psycopg.Connection[Any], _record: object) -> None:
        with connection.cursor() as cursor:
            for name, seconds in _TIMEOUTS_S.items():
                cursor.execute(f"SET {name} = '{seconds}s'".encode())
        connection.commit()

    @event.listens_for(engine, "handle_error")
    def _on_error(context: ExceptionContext) -> OperationalError | None:
        """A session that the server ended is a lost connection, as after a restart."""
        cause = context.original_exception
        if not isinstance(cause, psycopg.errors.IdleInTransactionSessionTimeout):
            return None
        context.is_disconnect = True
        return OperationalError(context.statement, None, cause)

    return engine
