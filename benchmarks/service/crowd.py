"""Status polls and lists by 200 connections with one API key, behind a short and a long queue."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.service.load import Load, measure
from benchmarks.service.processes import api
from zoodip_core.service import api_keys
from zoodip_core.service.database import Database
from zoodip_core.service.ids import new_id
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import NewJob
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.settings import ServiceSettings

_CONNECTIONS = 200
_QUEUES = (_CONNECTIONS, 10_000)
_OWNER = "bench"


def crowd(folder: Path, database_url: str | None, seconds: float) -> list[tuple[str, str]]:
    """Measure polls and lists at both queue lengths, each directly after a bare route.

    Args:
        folder: Data folder of the service.
        database_url: PostgreSQL URL; None for SQLite.
        seconds: Duration of each round.
    """
    label = "SQLite" if database_url is None else "PostgreSQL"
    settings = ServiceSettings(data_dir=folder, database_url=database_url)
    environment = {"ZOODIP_DATA_DIR": str(folder)}
    if database_url is not None:
        environment["ZOODIP_DATABASE_URL"] = database_url
    database = Database(settings.database)
    database.migrate()
    secret = api_keys.new_secret()
    with database.write() as connection:
        api_keys.create(connection, secret, time.time(), name="bench", owner=_OWNER)
    rows: list[tuple[str, str]] = []
    bare = api("benchmarks.service.processes:bare", "/bare", {})
    service = api("api.app:create_app", "/livez", environment)
    with bare as (bare_port, bare_process), service as (port, process):
        ids: list[str] = []
        for length in _QUEUES:
            ids += _queue(database, len(ids), length)
            polls = [f"/v1/personalizations/{job_id}" for job_id in ids[-_CONNECTIONS:]]
            for what, paths in (("polls", polls), ("lists", ["/v1/personalizations"])):
                least = measure(bare_port, bare_process.pid, ["/bare"] * _CONNECTIONS, seconds=seconds)
                paths = (paths * _CONNECTIONS)[:_CONNECTIONS]
                ours = measure(port, process.pid, paths, seconds=seconds, secret=secret)
                rows += _rows(f"{what}, {label}, {length:,} queued", ours, least)
    database.close()
    return rows


def _queue(database: Database, queued: int, length: int) -> list[str]:
    request = {"initializer": "dog", "kind": "object", "settings": {}}
    with database.write() as connection:
        return [
            store.add(connection, _new_job(request, number), time.time()).id
            for number in range(queued, length)
        ]


def _new_job(request: dict[str, Any], number: int) -> NewJob:
    return NewJob(
        id=new_id("per"),
        kind=JobKind.PERSONALIZATION,
        owner=_OWNER,
        base_model="emoji",
        token=f"<t{number}>",
        request=request,
        total_steps=1,
        metadata={},
    )


def _rows(what: str, ours: Load, bare: Load) -> list[tuple[str, str]]:
    return [
        (f"{what} ({_CONNECTIONS} connections)", str(ours)),
        (f"{what}: p99 / p99 of a bare route (aim: at most 5)", f"{ours.p99_ms / bare.p99_ms:.1f}"),
    ]
