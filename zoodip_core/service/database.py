"""Database connections: SQLite in WAL mode or PostgreSQL, read and write transactions, migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from zoodip_core.errors import InvalidSettingsError
from zoodip_core.service.postgresql import TIMEOUT_OPTION, create_pooled_engine, new_breaker

BUSY_TIMEOUT_S = 30.0
# With the pool of 10: 40 request threads, 8 upload threads, the API key readers and the status poll connection.
_MAX_OVERFLOW = 43
# Arbitrary keys of PostgreSQL advisory locks.
_MIGRATION_LOCK = 5_270_117
_CREATION_LOCK = 5_270_118
_CHANGED = "zoodip_changed_jobs"
# Deadlines of statements on PostgreSQL. A write may wait for a lock, for at most 30 s.
_READ_TIMEOUT_S = 10.0
_WRITE_TIMEOUT_S = 40.0


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
        self.breaker = new_breaker()
        """Open while the PostgreSQL server does not respond; reads and writes then fail at once."""
        if self.is_sqlite:
            self.engine = _sqlite(url, pool_size)
        else:
            self.engine = create_pooled_engine(
                url, self.breaker, pool_size=pool_size, max_overflow=_MAX_OVERFLOW
            )
        # Pooled PostgreSQL connections are in autocommit mode, so reads need no BEGIN and ROLLBACK. Writes switch
        # to READ COMMITTED for one transaction.
        writes = {"zoodip_writes": True} if self.is_sqlite else {"isolation_level": "READ COMMITTED"}
        self._reading = self.engine.execution_options(zoodip_reads=True, **{TIMEOUT_OPTION: _READ_TIMEOUT_S})
        self._writing = self.engine.execution_options(**writes, **{TIMEOUT_OPTION: _WRITE_TIMEOUT_S})
        self._migrating = self.engine.execution_options(**writes, **{TIMEOUT_OPTION: None})

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection for reads. Each query sees all earlier commits.

        Raises:
            OperationalError: The database is unavailable.
        """
        with self.connect() as connection:
            yield connection

    def connect(self) -> Connection:
        """Return a connection for reads that the caller keeps and closes.

        Raises:
            OperationalError: The database is unavailable.
        """
        self.check_responds()
        return self._reading.connect()

    def check_responds(self) -> None:
        """Validate that the server responded to its last check, so that a frozen one delays few callers.

        Raises:
            OperationalError: The server did not respond, and another caller is trying it or will soon.
        """
        if not self.breaker.allows_call():
            raise OperationalError(None, None, TimeoutError("the server does not respond"))

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection in a transaction: commit at the end, roll back on an exception.

        On SQLite the transaction takes the write lock at its start. Otherwise a transaction that reads before it
        writes would fail after a concurrent write, regardless of the timeout.

        Raises:
            OperationalError: The database is unavailable.
        """
        self.check_responds()
        with self._write(self._writing) as connection:
            yield connection

    @contextmanager
    def _write(self, engine: Engine) -> Iterator[Connection]:
        with engine.connect() as connection:
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
        with self._write(self._migrating) as connection:
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


def dialect_insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that can have an ON CONFLICT clause, which both databases have."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


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
