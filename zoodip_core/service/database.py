"""Database connections: SQLite in WAL mode or PostgreSQL, read and write transactions, migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError

from zoodip_core.errors import InvalidSettingsError

BUSY_TIMEOUT_S = 30.0
# With the pool of 10: 40 request threads, 8 upload threads, the API key readers and the status poll connection.
_MAX_OVERFLOW = 43
# Arbitrary keys of PostgreSQL advisory locks.
_MIGRATION_LOCK = 5_270_117
_CREATION_LOCK = 5_270_118
_CHANGED = "zoodip_changed_jobs"
# PostgreSQL ends the session of a process that freezes in a transaction before other transactions time out.
_TIMEOUTS_S = {"lock_timeout": 30, "idle_in_transaction_session_timeout": 20}


class Database:
    """Pooled connections to the service's database. Threads can share an instance; processes cannot.

    Args:
        url: SQLAlchemy URL.
        pool_size: Connections to keep open.
        on_change: Called after each commit with the id of each job that has a new event.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, on_change: Callable[[str], None] | None = None
    ) -> None:
        self.url = url
        self._on_change = on_change
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self.engine = _sqlite(url, pool_size) if self.is_sqlite else _postgresql(url, pool_size)
        # Pooled PostgreSQL connections are in autocommit mode, so reads need no BEGIN and ROLLBACK. Writes switch
        # to READ COMMITTED for one transaction.
        writes = {"zoodip_writes": True} if self.is_sqlite else {"isolation_level": "READ COMMITTED"}
        self._reading = self.engine.execution_options(zoodip_reads=True)
        self._writing = self.engine.execution_options(**writes)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection for reads. Each query sees all earlier commits."""
        with self._reading.connect() as connection:
            yield connection

    def connect(self) -> Connection:
        """Return a connection for reads that the caller keeps and closes."""
        return self._reading.connect()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection in a transaction: commit at the end, roll back on an exception.

        On SQLite the transaction takes the write lock at its start. Otherwise a transaction that reads before it
        writes would fail after a concurrent write, regardless of the timeout.
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
        """Migrate the tables to the newest schema. Safe if several processes start at once.

        Raises:
            InvalidSettingsError: A newer version of zoodip has migrated the database.
        """
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        with self.write() as connection:
            if not self.is_sqlite:
                connection.execute(
                    text("SET LOCAL lock_timeout = 0")
                )  # another process can need long to migrate
            _acquire_advisory_lock(_MIGRATION_LOCK, connection)
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise _unknown_revision(connection, config) from error

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()


def _unknown_revision(connection: Connection, config: Config) -> InvalidSettingsError:
    found = MigrationContext.configure(connection).get_current_revision()
    newest = ScriptDirectory.from_config(config).get_current_head()
    return InvalidSettingsError.mismatch(
        "database",
        got=f"the unknown schema {found}, which a newer version of zoodip created",
        expected=f"schema {newest} or an older one",
    )


def acquire_creation_lock(connection: Connection) -> None:
    """Take the creation lock until commit, so that quota and name checks cannot race.

    On SQLite this does nothing, because SQLite allows one writer at a time.
    """
    _acquire_advisory_lock(_CREATION_LOCK, connection)


def _acquire_advisory_lock(lock: int, connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock})


def mark_changed(connection: Connection, job_id: str) -> None:
    """Call `on_change` for the job when this transaction commits."""
    connection.info.setdefault(_CHANGED, set()).add(job_id)


def _sqlite(url: str, pool_size: int) -> Engine:
    path = make_url(url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        pool_size=pool_size,
        max_overflow=_MAX_OVERFLOW,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver must not start transactions
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("zoodip_reads", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("zoodip_writes", False) else "BEGIN")

    return engine


def _postgresql(url: str, pool_size: int) -> Engine:
    # pool_pre_ping detects connections that a server restart closed. It would be too slow for status polls, which
    # use their own connection. Prepared statements are off: a plan made while a table was small would be kept.
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=_MAX_OVERFLOW,
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
        """Treat a session that the server ended for idleness as a lost connection."""
        cause = context.original_exception
        if not isinstance(cause, psycopg.errors.IdleInTransactionSessionTimeout):
            return None
        context.is_disconnect = True
        return OperationalError(context.statement, None, cause)

    return engine
