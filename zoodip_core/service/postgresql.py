"""Connections to PostgreSQL with client-side deadlines.

A frozen or unreachable server neither answers nor closes its connections, and the timeouts that it enforces itself do
not fire. So each wait for an answer ends at a deadline of the client, which closes the connection.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from zoodip_core.service.circuit_breaker import CircuitBreaker

TIMEOUT_OPTION = "zoodip_timeout_s"
"""Execution option: seconds in which the server must answer each statement; None for no limit."""

# The server ends the session of a process that freezes in a transaction before other transactions time out.
SERVER_TIMEOUTS_S = {"lock_timeout": 30, "idle_in_transaction_session_timeout": 20}
_CHECK_TIMEOUT_S = 2  # for a new connection, and for the check of a pooled one
_STATUS_TIMEOUT_S = 3.0
_POOL_TIMEOUT_S = 5.0
_BREAKER_PAUSE_S = 2.0
_SIGNAL_CHECK_S = 0.1

R = TypeVar("R")


class _BoundedConnection(psycopg.Connection[Any]):
    """Connection that closes if the server does not answer within `timeout_s` seconds."""

    timeout_s: float | None = _CHECK_TIMEOUT_S

    def wait(self, gen: PQGen[R], interval: float = _SIGNAL_CHECK_S, timeout: float | None = None) -> R:
        """Wait for an answer of the server.

        Raises:
            psycopg.OperationalError: The server did not answer in time; the connection is closed.
        """
        started = time.monotonic()
        try:
            return super().wait(gen, interval, self.timeout_s if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.timeout_s is not None and time.monotonic() - started >= self.timeout_s:
                self.pgconn.finish()  # the next answer would belong to this statement
            raise


class _BoundedAsyncConnection(psycopg.AsyncConnection[Any]):
    """Asynchronous connection that closes if the server does not answer within three seconds."""

    breaker: CircuitBreaker | None = None

    async def wait(self, gen: PQGen[R], interval: float = _SIGNAL_CHECK_S, timeout: float | None = None) -> R:
        """Wait for an answer of the server.

        Raises:
            psycopg.OperationalError: The server did not answer in time; the connection is closed.
        """
        started = time.monotonic()
        try:
            return await super().wait(gen, interval, _STATUS_TIMEOUT_S if timeout is None else timeout)
        except psycopg.OperationalError:
            if time.monotonic() - started >= _STATUS_TIMEOUT_S:
                self.pgconn.finish()  # the next answer would belong to this statement
                if self.breaker is not None:
                    self.breaker.record_failure()
            raise


def new_breaker() -> CircuitBreaker:
    """Return a circuit breaker for one server."""
    return CircuitBreaker(_BREAKER_PAUSE_S)


def create_pooled_engine(url: str, breaker: CircuitBreaker, *, pool_size: int, max_overflow: int) -> Engine:
    """Return an engine in autocommit mode whose statements have deadlines.

    Args:
        url: SQLAlchemy URL.
        breaker: Opens when the server neither accepts a connection nor answers on a pooled one.
        pool_size: Connections to keep open.
        max_overflow: Largest number of further connections.
    """
    # pool_pre_ping detects connections that a server restart closed. It would be too slow for status polls, which
    # use their own connection. Prepared statements are off: a plan made while a table was small would be kept.
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=_POOL_TIMEOUT_S,
        isolation_level="AUTOCOMMIT",
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"prepare_threshold": None},
    )
    event.listen(engine, "connect", _set_server_timeouts)
    event.listen(engine, "handle_error", _on_idle_timeout)
    _install_deadlines(engine, breaker)
    return engine


def create_status_engine(url: str, breaker: CircuitBreaker) -> AsyncEngine:
    """Return an engine without a pool for the one connection of the status polls.

    Args:
        url: SQLAlchemy URL.
        breaker: Opens when the server neither accepts a connection nor answers a statement.
    """

    async def connect(*arguments: Any, **parameters: Any) -> _BoundedAsyncConnection:
        parameters = {"connect_timeout": _CHECK_TIMEOUT_S, **parameters}
        try:
            connection = await _BoundedAsyncConnection.connect(*arguments, **parameters)
        except psycopg.errors.ConnectionTimeout:
            breaker.record_failure()
            raise
        connection.breaker = breaker
        return connection

    return create_async_engine(
        url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        connect_args={"async_creator_fn": connect},
    )


def _install_deadlines(engine: Engine, breaker: CircuitBreaker) -> None:
    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Dialect, _record: object, arguments: Any, parameters: Any) -> _BoundedConnection:
        parameters = {"connect_timeout": _CHECK_TIMEOUT_S, **parameters}
        try:
            return _BoundedConnection.connect(*arguments, **parameters)
        except psycopg.errors.ConnectionTimeout:
            breaker.record_failure()
            raise

    @event.listens_for(engine, "engine_connect")
    def _begin_use(connection: Connection) -> None:
        breaker.record_success()  # the server has just accepted the connection or answered its check
        options = connection.get_execution_options()
        _driver_of(connection).timeout_s = options.get(TIMEOUT_OPTION, _CHECK_TIMEOUT_S)

    @event.listens_for(engine, "checkin")
    def _end_use(connection: _BoundedConnection | None, _record: object) -> None:
        if connection is not None:  # None: it was lost
            connection.timeout_s = _CHECK_TIMEOUT_S


def _driver_of(connection: Connection) -> _BoundedConnection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, _BoundedConnection)
    return driver


def _set_server_timeouts(connection: psycopg.Connection[Any], _record: object) -> None:
    with connection.cursor() as cursor:
        for name, seconds in SERVER_TIMEOUTS_S.items():
            cursor.execute(f"SET {name} = '{seconds}s'".encode())
    connection.commit()


def _on_idle_timeout(context: ExceptionContext) -> OperationalError | None:
    """Treat a session that the server ended for idleness as a lost connection."""
    cause = context.original_exception
    if not isinstance(cause, psycopg.errors.IdleInTransactionSessionTimeout):
        return None
    context.is_disconnect = True
    return OperationalError(context.statement, None, cause)
