"""Health probes of the supervisor: they find child processes that run but do not respond."""

from __future__ import annotations

import http.client
import sqlite3
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from zoodip_core.service import worker_registry
from zoodip_core.service.database import Database
from zoodip_core.service.settings import ServiceSettings

Probe = Callable[[int], bool | None]
"""Takes a process id. Returns whether the process responds; None if that cannot be known now."""

_HTTP_TIMEOUT_S = 5.0
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (addresses to listen on, not to connect to)


def api_probe(settings: ServiceSettings) -> Probe:
    """Return a probe of the API: any HTTP response to `/livez` means that it responds."""
    host = _EVERY_ADDRESS.get(settings.host, settings.host)

    def responds(_pid: int) -> bool | None:
        if settings.port == 0:  # the API listens on a port that only it knows
            return None
        connection = http.client.HTTPConnection(host, settings.port, timeout=_HTTP_TIMEOUT_S)
        try:
            connection.request("GET", "/livez")
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    return responds


def worker_probe(settings: ServiceSettings) -> Probe:
    """Return a probe of the worker: its heartbeat thread must have reported within the last two leases.

    A worker that cannot report, because the database takes no writes, keeps its jobs. But a lock that is never
    released may be its own: SQLite stays locked if a process freezes in a transaction. A hanging engine is not the
    concern of the probe: the worker itself exits after `ZOODIP_STUCK_AFTER_S`.
    """
    database = Database(settings.database)

    def reports(pid: int) -> bool | None:
        prefix = worker_registry.id_prefix(pid)
        try:
            with database.read() as connection:
                seen_at = worker_registry.last_seen(connection, prefix)
            if seen_at is not None and time.time() - seen_at <= 2 * settings.lease_s:
                return True
            _check_writable(database, prefix + "probe")
        except SQLAlchemyError as error:
            return False if _is_locked(error) else None  # None: the worker cannot report either
        return False

    return reports


def _check_writable(database: Database, probe_id: str) -> None:
    """Validate that the database takes a report. No other transaction sees this one.

    Raises:
        SQLAlchemyError: the database is unavailable, or its disk is full.
    """
    with database.write() as connection:
        worker_registry.report(connection, probe_id, time.time(), draining=True, stats={})
        worker_registry.deregister(connection, probe_id)


def _is_locked(error: SQLAlchemyError) -> bool:
    """Return whether another process holds the lock of SQLite."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    return isinstance(cause, sqlite3.Error) and cause.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
